"""What comes in becomes layers and blobs on disk. Runs in threads; sees no state but what is given.

Nothing here counts until the catalog says so: what a crash leaves is swept away at the next start.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import InvalidRequest
from engine.images.archive import ArchivedImage, read_archive, spool_archive
from engine.images.blobs import Blobs, Written, write_pieces, write_temporary
from engine.images.catalog import ImageRecord, LayerRecord
from engine.images.compression import Source, compress, decompressed
from engine.images.diff_layer import has_changes, pack_changes
from engine.images.layers import Layers, Staged, remove_directory
from engine.images.legacy_archive import is_legacy, legacy_images
from engine.images.model import Progress
from engine.images.pack import Sink
from engine.images.reports import Tell
from engine.images.watched import Throttle, Watched
from engine.oci.digest import Digest, digest_of, hex_part
from engine.oci.image_config import ImageDocument, image_document_json, parse_image_document
from engine.oci.manifest import OCI_LAYER, OCI_LAYER_GZIP, Descriptor
from engine.oci.platform import Platform, best_match
from engine.oci.reference import Reference

# OCI has no media types for the others.
_MEDIA_TYPES = {"": OCI_LAYER, "gzip": OCI_LAYER_GZIP, "zstd": f"{OCI_LAYER}+zstd"}
_MAX_CONFIG = 8 << 20


@dataclass(frozen=True, slots=True)
class Incoming:
    """An image whose parts are on disk, durable."""

    record: ImageRecord
    layers: tuple[LayerRecord, ...]
    document: ImageDocument
    names: tuple[Reference, ...] = ()


class Intake:
    def __init__(self, blobs: Blobs, layers: Layers, temporary: Path, platform: Platform) -> None:
        self._blobs = blobs
        self._layers = layers
        self._temporary = temporary
        self._platform = platform

    def load(
        self,
        archive: Source,
        known: Mapping[Digest, LayerRecord],
        tell: Tell,
        *,
        platform: Platform | None = None,
    ) -> tuple[Incoming, ...]:
        """All images of an archive, or none; with a platform those that are for it. `tell` hears
        how far each layer is."""
        with self.scratch("load") as folder:
            spool = spool_archive(archive, folder)
            if is_legacy(spool):
                images = legacy_images(spool, folder)
            else:
                images = read_archive(spool, platform or self._platform)
            if platform is not None:
                images = _meant_for(platform, images)
            with self._staging() as staged:
                incoming = tuple(self._archived(image, known, staged, tell) for image in images)
                self._layers.adopt(tuple(staged.values()))
            # A layer that is here already keeps the blob that it came with.
            named = {layer.blob for each in incoming for layer in each.layers}
            for image in images:
                documents = (image.config, *((image.manifest,) if image.manifest else ()))
                layers = [written for written in image.layers if written.digest in named]
                for written in (*documents, *layers):
                    if not self._blobs.has(written.digest):
                        self._blobs.adopt(written)
            self._blobs.sync()
        return incoming

    def import_(self, archive: Source, document: ImageDocument) -> Incoming:
        """A flat tar as the one layer of an image with that document (its diff id is added)."""
        with self.scratch("import") as folder:
            written = write_temporary(archive, folder)
            with self._staging() as staged:
                with open(written.path, "rb", buffering=0) as blob:
                    layer = self._layers.unpack(blob, expected=None)
                staged[layer.diff_id] = layer
                if layer.compression not in _MEDIA_TYPES:
                    with open(written.path, "rb", buffering=0) as blob:
                        written = write_temporary(decompressed(blob), folder)
                    record = _layer_record(layer, written, OCI_LAYER)
                else:
                    record = _layer_record(layer, written, _MEDIA_TYPES[layer.compression])
                self._layers.adopt((layer,))
            self._blobs.adopt(written)
            return self.made(document, (record,))

    def made(self, document: ImageDocument, layers: Sequence[LayerRecord]) -> Incoming:
        """An image made here out of layers that are in the store."""
        diff_ids = tuple(layer.diff_id for layer in layers)
        content = image_document_json(replace(document, diff_ids=diff_ids))
        image_id = digest_of(content)
        self.add_documents((content,))
        document = parse_image_document(content)
        return Incoming(ImageRecord(image_id, diff_ids), tuple(layers), document)

    def built(
        self,
        document: ImageDocument,
        below: Sequence[LayerRecord],
        upper: Path | None,
        layer: LayerRecord | None = None,
    ) -> Incoming:
        """What a build step made on the layers `below`: `document`, whose last line of history is
        the step's own. The upper directory of its overlay becomes a layer, and is moved away;
        one without changes makes none."""
        layer = layer if upper is None else self._add_changes(upper)
        if layer is None:
            *before, own = document.history
            document = replace(document, history=(*before, replace(own, empty_layer=True)))
        return self.made(document, (*below, *((layer,) if layer else ())))

    def _add_changes(self, upper: Path) -> LayerRecord | None:
        descriptor = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not has_changes(descriptor):
                return None
            with self.scratch("step") as folder:
                sizes: list[int] = []
                written = write_pieces(
                    lambda sink: sizes.append(pack_changes(descriptor, sink)), folder
                )
                staged = Staged(upper, written.digest, sizes[0], "")
                self._layers.adopt((staged,))
                self._blobs.adopt(written)
                self._blobs.sync()
        finally:
            os.close(descriptor)
        return _layer_record(staged, written, OCI_LAYER)

    def committed(
        self,
        document: ImageDocument,
        below: Sequence[LayerRecord],
        pack: Callable[[Sink], int] | None,
    ) -> Incoming:
        """The same from what `pack` says of a container's changes; its own files stay with it."""
        if pack is None:
            *before, own = document.history
            document = replace(document, history=(*before, replace(own, empty_layer=True)))
            return self.made(document, below)
        with self.scratch("commit") as folder:
            written = write_pieces(pack, folder)
            diff_id = written.digest  # not compressed
            with open(written.path, "rb", buffering=0) as content:
                layer = self.add_layer(
                    written, content, diff_id, [record.diff_id for record in below]
                )
        return self.made(document, (*below, layer))

    def receive(self, source: Source, descriptor: Descriptor, folder: Path) -> Written:
        """A blob in a file of `folder`: what its descriptor says, or InvalidRequest."""
        written = write_temporary(source, folder, limit=descriptor.size)
        if (written.digest, written.size) != (descriptor.digest, descriptor.size):
            raise InvalidRequest(
                f"filesystem layer verification failed for digest {descriptor.digest}: "
                f"got {written.size} bytes of {descriptor.size}, digest {written.digest}"
            )
        return written

    def add_layer(
        self, written: Written, content: Source, diff_id: Digest, below: Sequence[Digest]
    ) -> LayerRecord:
        """Unpack what was received, durably. `content` reads it; `below` is bottom first."""
        paths = [self._layers.path(each) for each in reversed(below)]
        staged = self._layers.unpack(content, expected=diff_id, below=paths)
        try:
            record = _layer_record(staged, written, _media_type(staged))
            self._layers.adopt((staged,))
        except BaseException:
            if staged.path.exists():
                remove_directory(staged.path)
            raise
        self._blobs.adopt(written)
        self._blobs.sync()
        return record

    def compressed(self, layer: LayerRecord, content: Source) -> LayerRecord:
        """A plain layer whose blob is kept as gzip from now on, durably. `content` reads it."""
        with self.scratch("gzip") as folder:
            written = write_pieces(lambda put: compress(content, put), folder)
            self._blobs.adopt(written)
            self._blobs.sync()
        return replace(
            layer, blob=written.digest, blob_size=written.size, media_type=OCI_LAYER_GZIP
        )

    def add_documents(self, contents: Sequence[bytes]) -> None:
        with self.scratch("documents") as folder:
            for content in contents:
                self._blobs.adopt(write_temporary(_Memory(content), folder))
            self._blobs.sync()

    def _archived(
        self,
        image: ArchivedImage,
        known: Mapping[Digest, LayerRecord],
        staged: dict[Digest, Staged],
        tell: Tell,
    ) -> Incoming:
        document = _document(image)
        if len(document.diff_ids) != len(image.layers):
            raise InvalidRequest(
                f"invalid archive: the configuration has {len(document.diff_ids)} layers, "
                f"the manifest {len(image.layers)}"
            )
        records: list[LayerRecord] = []
        below: list[Path] = []
        for diff_id, blob in zip(document.diff_ids, image.layers, strict=True):
            records.append(self._layer(diff_id, blob, known, staged, below, tell))
            waiting = staged.get(diff_id)
            below.insert(0, waiting.path if waiting else self._layers.path(diff_id))
        manifest = image.manifest.digest if image.manifest else ""
        record = ImageRecord(image.config.digest, document.diff_ids, manifest)
        return Incoming(record, tuple(records), document, image.names)

    def _layer(
        self,
        diff_id: Digest,
        blob: Written,
        known: Mapping[Digest, LayerRecord],
        staged: dict[Digest, Staged],
        below: Sequence[Path],
        tell: Tell,
    ) -> LayerRecord:
        if diff_id in known and self._layers.has(diff_id):
            return known[diff_id]
        if diff_id not in staged:
            short = hex_part(diff_id)[:12]

            def progress(position: int) -> None:
                tell(Progress("Loading layer", short, position, blob.size, is_of_layer=True))

            with open(blob.path, "rb", buffering=0) as stream:
                content = Watched(stream, Throttle(progress))
                staged[diff_id] = self._layers.unpack(content, expected=diff_id, below=below)
            progress(blob.size)
        return _layer_record(staged[diff_id], blob, _media_type(staged[diff_id]))

    @contextlib.contextmanager
    def scratch(self, what: str) -> Iterator[Path]:
        folder = self._temporary / f"{what}-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove_directory(folder)

    @contextlib.contextmanager
    def _staging(self) -> Iterator[dict[Digest, Staged]]:
        """Layers in the making; those that didn't get their name go again."""
        staged: dict[Digest, Staged] = {}
        try:
            yield staged
        finally:
            for layer in staged.values():
                if layer.path.exists():
                    remove_directory(layer.path)


class _Memory:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int, /) -> bytes:
        taken, self._content = self._content[:size], self._content[size:]
        return taken


def _document(image: ArchivedImage) -> ImageDocument:
    if image.config.size > _MAX_CONFIG:
        raise InvalidRequest(f"invalid archive: a configuration of {image.config.size} bytes")
    return parse_image_document(image.config.path.read_bytes())


def _meant_for(platform: Platform, images: Sequence[ArchivedImage]) -> tuple[ArchivedImage, ...]:
    found = tuple(
        image for image in images if best_match(platform, [_document(image).platform]) is not None
    )
    if not found:
        raise InvalidRequest(f"cannot load: the archive has no image for {platform}")
    return found


def _media_type(layer: Staged) -> str:
    if layer.compression not in _MEDIA_TYPES:
        raise InvalidRequest(f"unsupported compression of a layer: {layer.compression}")
    return _MEDIA_TYPES[layer.compression]


def _layer_record(layer: Staged, blob: Written, media_type: str) -> LayerRecord:
    return LayerRecord(layer.diff_id, blob.digest, blob.size, media_type, layer.size)
