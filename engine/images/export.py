"""Writes images as one tar: an OCI image layout that also has Docker's manifest.json, and
`repositories` for what is older than that."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from engine.images.blobs import Blobs
from engine.images.catalog import LayerRecord
from engine.images.tar_reader import Kind, Member
from engine.images.tar_writer import END, member_head, padding
from engine.oci.digest import Digest, digest_of, hex_part
from engine.oci.manifest import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    index_json,
    manifest_json,
)
from engine.oci.reference import Reference

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class ExportedImage:
    id: Digest
    layers: tuple[LayerRecord, ...]  # bottom first
    names: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class _File:
    """A stored blob, or a document that is made here; a folder where the name ends in a slash."""

    name: str
    blob: Digest | None = None
    size: int = 0
    content: bytes = b""


def export_images(
    images: Sequence[ExportedImage], blobs: Blobs, threads: Executor
) -> AsyncGenerator[bytes, None]:
    """The caller keeps the images from being removed meanwhile."""
    return _stream(tuple(_files(images, blobs)), blobs, threads)


def _files(images: Sequence[ExportedImage], blobs: Blobs) -> Iterator[_File]:
    seen: set[Digest] = set()
    descriptors: list[Descriptor] = []
    listed: list[dict[str, object]] = []
    repositories: dict[str, dict[str, str]] = {}
    yield from (_File("blobs/"), _File("blobs/sha256/"))
    for image in images:
        config_size = blobs.path(image.id).stat().st_size
        manifest = Manifest(
            OCI_MANIFEST,
            Descriptor(OCI_CONFIG, image.id, config_size),
            tuple(
                Descriptor(layer.media_type, layer.blob, layer.blob_size) for layer in image.layers
            ),
        )
        for part in (manifest.config, *manifest.layers):
            if part.digest not in seen:
                seen.add(part.digest)
                yield _File(_path(part.digest), part.digest, part.size)
        document = manifest_json(manifest)
        digest = digest_of(document)
        if digest not in seen:
            seen.add(digest)
            yield _File(_path(digest), size=len(document), content=document)
        descriptors += _named_descriptors(Descriptor(OCI_MANIFEST, digest, len(document)), image)
        listed.append(
            {
                "Config": _path(image.id),
                "RepoTags": [name.familiar for name in image.names] or None,
                "Layers": [_path(layer.blob) for layer in image.layers],
                "LayerSources": {
                    layer.diff_id: {
                        "mediaType": layer.media_type,
                        "size": layer.blob_size,
                        "digest": layer.blob,
                    }
                    for layer in image.layers
                },
            }
        )
        for reference in image.names if image.layers else ():
            tags = repositories.setdefault(reference.familiar_name, {})
            tags[reference.tag] = hex_part(image.layers[-1].blob)
    for name, content in (
        ("index.json", index_json(Index(OCI_INDEX, tuple(descriptors)))),
        ("manifest.json", json.dumps(listed, separators=(",", ":")).encode()),
        ("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        ("repositories", json.dumps(repositories, separators=(",", ":")).encode()),
    ):
        yield _File(name, size=len(content), content=content)


def _named_descriptors(descriptor: Descriptor, image: ExportedImage) -> Iterator[Descriptor]:
    """One for each name: that is how index.json says them."""
    if not image.names:
        yield descriptor
    for name in image.names:
        annotations = (
            ("io.containerd.image.name", str(name)),
            ("org.opencontainers.image.ref.name", name.tag),
        )
        yield Descriptor(
            descriptor.media_type, descriptor.digest, descriptor.size, annotations=annotations
        )


async def _stream(
    files: Sequence[_File], blobs: Blobs, threads: Executor
) -> AsyncGenerator[bytes, None]:
    loop = asyncio.get_running_loop()
    for file in files:
        kind, mode = (Kind.DIRECTORY, 0o755) if file.name.endswith("/") else (Kind.FILE, 0o644)
        yield member_head(Member(file.name, kind, mode, 0, 0, file.size, 0))
        if file.blob is None:
            yield file.content
        else:
            with open(blobs.path(file.blob), "rb", buffering=0) as stream:
                while chunk := await loop.run_in_executor(threads, stream.read, _CHUNK):
                    yield chunk
        yield padding(file.size)
    yield END


def _path(digest: Digest) -> str:
    return f"blobs/sha256/{hex_part(digest)}"
