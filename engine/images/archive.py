"""Reads image archives: what `docker save` writes (manifest.json) and OCI image layouts; those of
long ago are `legacy_archive.py`'s.

The tar is spooled member by member; then names in its documents are looked up among its members
and nowhere else. A link counts only as `docker save` writes one, for a layer that is in the archive
twice: a symbolic link to a member. A document that names any other is refused.
"""

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from engine.errors import InvalidRequest
from engine.images.blobs import Written, write_temporary
from engine.images.compression import Source, decompressed
from engine.images.tar_reader import Kind, TarReader
from engine.oci.digest import Digest, hex_part
from engine.oci.document import (
    MAX_DOCUMENT,
    as_array,
    as_object,
    parse_document,
    parse_object,
    text_field,
    texts_field,
)
from engine.oci.manifest import Descriptor, Index, Manifest, parse_descriptor, parse_manifest
from engine.oci.platform import Platform, best_match
from engine.oci.reference import Reference, parse_reference

MAX_MEMBERS = 100_000
MAX_NESTING = 4
_NAME_ANNOTATIONS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class ArchivedImage:
    config: Written
    layers: tuple[Written, ...]  # bottom first
    names: tuple[Reference, ...]
    manifest: Written | None = None


@dataclass(frozen=True, slots=True)
class Spool:
    files: Mapping[str, Written]
    links: Mapping[str, str]  # -> the member that it means, "" if it can't mean one

    def file(self, name: str, what: str) -> Written:
        """The member of that name. Raises InvalidRequest."""
        key = _normal(name)
        if key in self.links:
            key = self.links[key]
            if key not in self.files:
                raise InvalidRequest(f"invalid archive: {what} {name!r} is a link")
        if key not in self.files:
            raise InvalidRequest(f"invalid archive: {what} {name!r} is not in it")
        return self.files[key]

    def has(self, name: str) -> bool:
        return name in self.files

    def blob(self, descriptor: Descriptor, what: str) -> Written:
        name = f"blobs/sha256/{hex_part(descriptor.digest)}"
        written = self.file(name, what)
        if written.digest != descriptor.digest or written.size != descriptor.size:
            raise InvalidRequest(
                f"invalid archive: {what} {name!r} has {written.size} bytes and digest "
                f"{written.digest}, its descriptor says {descriptor.size} and {descriptor.digest}"
            )
        return written


def spool_archive(source: Source, folder: Path) -> Spool:
    """Writes the members of the tar to `folder`, under names of our own."""
    reader = TarReader(decompressed(source))
    files: dict[str, Written] = {}
    links: dict[str, str] = {}
    for count, member in enumerate(reader):
        if count > MAX_MEMBERS:
            raise InvalidRequest(f"invalid archive: more than {MAX_MEMBERS} members")
        name = _normal(member.name)
        if member.kind is Kind.FILE and member.sparse is None:
            files[name] = write_temporary(reader, folder)
            links.pop(name, None)
        elif member.kind is not Kind.DIRECTORY:
            links[name] = _target(name, member.link) if member.kind is Kind.SYMLINK else ""
            files.pop(name, None)
    return Spool(files, links)


def read_archive(spool: Spool, platform: Platform) -> tuple[ArchivedImage, ...]:
    """The images in it. Of one for several machines the one that fits `platform`."""
    if spool.has("manifest.json"):
        return _docker_images(spool)
    if spool.has("index.json"):
        return _layout_images(spool, platform)
    raise InvalidRequest(
        "invalid archive: it has none of manifest.json, index.json and repositories"
    )


def _docker_images(spool: Spool) -> tuple[ArchivedImage, ...]:
    document = parse_document(content_of(spool.file("manifest.json", "manifest")), "manifest.json")
    images = []
    for entry in as_array(document, "manifest.json"):
        fields = as_object(entry, "manifest.json")
        config = _named(spool, text_field(fields, "Config"), "configuration")
        layers = tuple(_named(spool, name, "layer") for name in texts_field(fields, "Layers"))
        names = tuple(_tagged(text) for text in texts_field(fields, "RepoTags"))
        images.append(ArchivedImage(config, layers, names))
    if not images:
        raise InvalidRequest("invalid archive: manifest.json names no image")
    return tuple(images)


def _layout_images(spool: Spool, platform: Platform) -> tuple[ArchivedImage, ...]:
    """image-spec, image-layout.md. Entries of index.json that are the same image are one here."""
    index = parse_object(content_of(spool.file("index.json", "index")), "index.json")
    found: dict[Digest, ArchivedImage] = {}
    for entry in as_array(index.get("manifests"), "manifests"):
        descriptor = parse_descriptor(as_object(entry, "manifests"))
        name = _annotated_name(descriptor)
        for image in _images_below(spool, descriptor, platform, MAX_NESTING):
            known = found.get(image.config.digest)
            names = known.names if known else ()
            if name is not None and name not in names:
                names = (*names, name)
            found[image.config.digest] = ArchivedImage(
                image.config, image.layers, names, image.manifest
            )
    if not found:
        raise InvalidRequest(f"invalid archive: index.json has no image for {platform}")
    return tuple(found.values())


def _images_below(
    spool: Spool, descriptor: Descriptor, platform: Platform, depth: int
) -> Iterator[ArchivedImage]:
    if depth == 0:
        raise InvalidRequest("invalid archive: indexes are nested too deep")
    written = spool.blob(descriptor, "manifest")
    match parse_manifest(content_of(written), descriptor.media_type):
        case Manifest() as manifest:
            config = spool.blob(manifest.config, "configuration")
            layers = tuple(spool.blob(layer, "layer") for layer in manifest.layers)
            yield ArchivedImage(config, layers, (), written)
        case Index() as nested:
            chosen = _chosen(spool, nested.manifests, platform)
            if chosen is not None:
                yield from _images_below(spool, chosen, platform, depth - 1)


def _chosen(spool: Spool, offered: Sequence[Descriptor], platform: Platform) -> Descriptor | None:
    """What fits this machine, of those that the archive has: a save may leave out the others."""
    present = [
        manifest
        for manifest in offered
        if spool.has(f"blobs/sha256/{hex_part(manifest.digest)}")
        and (manifest.platform is None or manifest.platform.os != "unknown")
    ]
    best = best_match(platform, [manifest.platform or platform for manifest in present])
    return None if best is None else present[best]


def _named(spool: Spool, name: str, what: str) -> Written:
    """A file that is called by its digest must have it."""
    written = spool.file(name, what)
    claimed = PurePosixPath(name).name.removesuffix(".json")
    is_digest = len(claimed) == 64 and not claimed.strip("0123456789abcdef")
    if is_digest and claimed != hex_part(written.digest):
        raise InvalidRequest(f"invalid archive: {what} {name!r} has digest {written.digest}")
    return written


def _tagged(text: str) -> Reference:
    reference = parse_reference(text)
    if not reference.tag or reference.digest:
        raise InvalidRequest(f"invalid tag {text!r}")
    return reference


def _annotated_name(descriptor: Descriptor) -> Reference | None:
    annotations = dict(descriptor.annotations)
    for key in _NAME_ANNOTATIONS:
        text = annotations.get(key, "")
        # `ref.name` may be a tag alone; then the archive doesn't say what is tagged.
        if "/" in text or ":" in text:
            return parse_reference(text).without_digest().with_default_tag()
    return None


def content_of(written: Written) -> bytes:
    if written.size > MAX_DOCUMENT:
        raise InvalidRequest(f"invalid archive: a document of {written.size} bytes")
    return written.path.read_bytes()


def _target(name: str, link: str) -> str:
    """The member that a relative link means, by its text alone."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
    return "" if path.startswith(("/", "..")) else path


def _normal(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))
