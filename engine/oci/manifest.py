"""Pure: OCI and Docker manifests and indexes (image-spec manifest.md, image-index.md)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import InvalidRequest
from engine.oci.digest import Digest, parse_digest
from engine.oci.document import (
    array_field,
    as_object,
    int_field,
    object_field,
    parse_object,
    text_field,
)
from engine.oci.image_config import MAX_LAYERS
from engine.oci.platform import Platform

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
_LAYER_TYPES = frozenset(
    base + compression
    for base in (
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
    )
    for compression in ("", "+gzip", "+zstd")
) | {
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
}
_MAX_DESCRIPTORS = 2000


@dataclass(frozen=True, slots=True)
class Descriptor:
    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]  # bottom first


@dataclass(frozen=True, slots=True)
class Index:
    media_type: str
    manifests: tuple[Descriptor, ...]


def parse_manifest(content: bytes, media_type: str = "") -> Manifest | Index:
    """`media_type` is what the transport said; "" if it said nothing. A document that could be
    read as both kinds, or isn't what the transport said, is refused (CVE-2021-41190)."""
    document = parse_object(content, "manifest")
    if "layers" in document and "manifests" in document:
        raise InvalidRequest("invalid manifest: it has both layers and manifests")
    inside = text_field(document, "mediaType")
    if inside and media_type and inside != media_type:
        raise InvalidRequest(f"invalid manifest: sent as {media_type!r}, says it is {inside!r}")
    kind = inside or media_type
    if not kind:
        kind = OCI_INDEX if "manifests" in document else OCI_MANIFEST
    if int_field(document, "schemaVersion") != 2:
        raise InvalidRequest("unsupported manifest: only schema version 2 is supported")
    if kind in INDEX_TYPES and "layers" not in document and "config" not in document:
        return Index(kind, _descriptors(document, "manifests"))
    if kind in MANIFEST_TYPES and "manifests" not in document:
        layers = _descriptors(document, "layers")
        if len(layers) > MAX_LAYERS:
            raise InvalidRequest(f"invalid manifest: more than {MAX_LAYERS} layers")
        for layer in layers:
            if layer.media_type not in _LAYER_TYPES:
                raise InvalidRequest(f"unsupported layer media type {layer.media_type!r}")
        return Manifest(kind, parse_descriptor(object_field(document, "config")), layers)
    raise InvalidRequest(f"unsupported manifest media type {kind!r}")


def parse_descriptor(document: Mapping[str, object]) -> Descriptor:
    size = int_field(document, "size")
    if size < 0:
        raise InvalidRequest(f"invalid descriptor: size {size}")
    platform = object_field(document, "platform")
    annotations = object_field(document, "annotations")
    return Descriptor(
        media_type=text_field(document, "mediaType"),
        digest=parse_digest(text_field(document, "digest")),
        size=size,
        platform=_parse_platform(platform) if platform else None,
        annotations=tuple(
            (key, value) for key, value in sorted(annotations.items()) if isinstance(value, str)
        ),
    )


def descriptor_json(descriptor: Descriptor) -> dict[str, object]:
    document: dict[str, object] = {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }
    if descriptor.annotations:
        document["annotations"] = dict(descriptor.annotations)
    if descriptor.platform is not None:
        platform = {
            "architecture": descriptor.platform.architecture,
            "os": descriptor.platform.os,
        }
        if descriptor.platform.variant:
            platform["variant"] = descriptor.platform.variant
        document["platform"] = platform
    return document


def manifest_json(manifest: Manifest) -> bytes:
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": manifest.media_type,
            "config": descriptor_json(manifest.config),
            "layers": [descriptor_json(layer) for layer in manifest.layers],
        }
    )


def index_json(index: Index) -> bytes:
    return _canonical(
        {
            "schemaVersion": 2,
            "mediaType": index.media_type,
            "manifests": [descriptor_json(manifest) for manifest in index.manifests],
        }
    )


def _descriptors(document: Mapping[str, object], key: str) -> tuple[Descriptor, ...]:
    entries = array_field(document, key)
    if len(entries) > _MAX_DESCRIPTORS:
        raise InvalidRequest(f"invalid manifest: more than {_MAX_DESCRIPTORS} {key}")
    return tuple(parse_descriptor(as_object(entry, key)) for entry in entries)


def _parse_platform(document: Mapping[str, object]) -> Platform:
    return Platform(
        text_field(document, "os"),
        text_field(document, "architecture"),
        text_field(document, "variant"),
    )


def _canonical(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
