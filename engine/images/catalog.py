"""Pure: which images there are, their names and their layers. One value, written as one file.

A change makes a new catalog. A layer or a blob that no image of the catalog names is garbage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from engine.errors import InvalidRequest
from engine.oci.digest import Digest, parse_digest
from engine.oci.document import (
    array_field,
    as_object,
    as_text,
    bool_field,
    int_field,
    object_field,
    text_field,
    texts_field,
)

VERSION = 1


@dataclass(frozen=True, slots=True)
class LayerRecord:
    diff_id: Digest
    blob: Digest  # the tar as it came in
    blob_size: int
    media_type: str
    size: int  # bytes of files, unpacked


@dataclass(frozen=True, slots=True)
class ImageRecord:
    id: Digest  # the digest of its configuration
    layers: tuple[Digest, ...]  # diff ids, bottom first
    manifest: str = ""  # the digest of the manifest it came with
    last_tagged: str = ""
    parent: str = ""  # id of the image of the container that it was committed from
    base: str = ""  # a directory of the host below its layers, resolved
    cache_key: str = ""  # what a build step made it of
    is_step: bool = False  # only the builder's cache has it: no image to anybody else


@dataclass(frozen=True, slots=True)
class Catalog:
    images: Mapping[Digest, ImageRecord] = field(default_factory=dict)
    layers: Mapping[Digest, LayerRecord] = field(default_factory=dict)
    names: Mapping[str, Digest] = field(default_factory=dict)  # full reference -> image id

    def names_of(self, image_id: Digest) -> tuple[str, ...]:
        return tuple(sorted(name for name, known in self.names.items() if known == image_id))

    def with_image(self, image: ImageRecord, layers: Sequence[LayerRecord]) -> "Catalog":
        known = self.images.get(image.id)
        if known is not None:
            image = replace(
                image,
                manifest=image.manifest or known.manifest,
                last_tagged=known.last_tagged,
                base=image.base or known.base,
                cache_key=image.cache_key or known.cache_key,
                is_step=image.is_step and known.is_step,
            )
        images = dict(self.images)
        if image.cache_key:
            images = {key: _without_key(other, image.cache_key) for key, other in images.items()}
        # A layer that is here already keeps the blob that it came with.
        added = {layer.diff_id: layer for layer in layers if layer.diff_id not in self.layers}
        return replace(
            self,
            images=MappingProxyType({**images, image.id: image}),
            layers=MappingProxyType({**self.layers, **added}),
        )

    def with_name(self, name: str, image_id: Digest, now: str) -> "Catalog":
        image = replace(self.images[image_id], last_tagged=now, is_step=False)
        return replace(
            self,
            images=MappingProxyType({**self.images, image_id: image}),
            names=MappingProxyType({**self.names, name: image_id}),
        )

    def with_blob(self, layer: LayerRecord) -> "Catalog":
        """A layer whose blob is another one from now on."""
        if layer.diff_id not in self.layers:
            return self
        return replace(self, layers=MappingProxyType({**self.layers, layer.diff_id: layer}))

    def with_pushed(self, name: str, image_id: Digest, manifest: Digest) -> "Catalog":
        """An image that a registry has under the digest `name`, if it is still here."""
        if image_id not in self.images:
            return self
        image = replace(self.images[image_id], manifest=manifest)
        return replace(
            self,
            images=MappingProxyType({**self.images, image_id: image}),
            names=MappingProxyType({**self.names, name: image_id}),
        )

    def without_step_mark(self, image_id: Digest) -> "Catalog":
        if not self.images[image_id].is_step:
            return self
        image = replace(self.images[image_id], is_step=False)
        return replace(self, images=MappingProxyType({**self.images, image_id: image}))

    def made_of(self, cache_key: str) -> ImageRecord | None:
        """What a build step with that key made, the newest."""
        found = (image for image in self.images.values() if image.cache_key == cache_key)
        return next(found, None)

    def without_names(self, names: Sequence[str]) -> "Catalog":
        kept = {name: known for name, known in self.names.items() if name not in names}
        return replace(self, names=MappingProxyType(kept))

    def without_image(self, image_id: Digest) -> "Catalog":
        images = {key: image for key, image in self.images.items() if key != image_id}
        names = {name: known for name, known in self.names.items() if known != image_id}
        used = {diff_id for image in images.values() for diff_id in image.layers}
        layers = {key: layer for key, layer in self.layers.items() if key in used}
        return Catalog(MappingProxyType(images), MappingProxyType(layers), MappingProxyType(names))

    def blobs(self) -> frozenset[str]:
        """Digests of all blobs that have to stay."""
        return frozenset(
            [layer.blob for layer in self.layers.values()]
            + list(self.images)
            + [image.manifest for image in self.images.values() if image.manifest]
        )


def catalog_json(catalog: Catalog) -> dict[str, object]:
    return {
        "version": VERSION,
        "images": [
            {
                "id": image.id,
                "layers": list(image.layers),
                "manifest": image.manifest,
                "lastTagged": image.last_tagged,
                **({"parent": image.parent} if image.parent else {}),
                **({"base": image.base} if image.base else {}),
                **({"cacheKey": image.cache_key} if image.cache_key else {}),
                **({"isStep": True} if image.is_step else {}),
            }
            for image in catalog.images.values()
        ],
        "layers": [
            {
                "diffId": layer.diff_id,
                "blob": layer.blob,
                "blobSize": layer.blob_size,
                "mediaType": layer.media_type,
                "size": layer.size,
            }
            for layer in catalog.layers.values()
        ],
        "names": dict(catalog.names),
    }


def parse_catalog(value: object) -> Catalog:
    """Raises InvalidRequest for what this version can't read."""
    document = as_object(value, "catalog")
    if int_field(document, "version") != VERSION:
        raise InvalidRequest(f"catalog of version {int_field(document, 'version')}, not {VERSION}")
    images = [_parse_image(as_object(entry, "image")) for entry in array_field(document, "images")]
    layers = [_parse_layer(as_object(entry, "layer")) for entry in array_field(document, "layers")]
    names = {
        name: parse_digest(as_text(image_id, "name"))
        for name, image_id in object_field(document, "names").items()
    }
    return Catalog(
        MappingProxyType({image.id: image for image in images}),
        MappingProxyType({layer.diff_id: layer for layer in layers}),
        MappingProxyType(names),
    )


def _parse_image(document: Mapping[str, object]) -> ImageRecord:
    return ImageRecord(
        id=parse_digest(text_field(document, "id")),
        layers=tuple(parse_digest(text) for text in texts_field(document, "layers")),
        manifest=text_field(document, "manifest"),
        last_tagged=text_field(document, "lastTagged"),
        parent=text_field(document, "parent"),
        base=text_field(document, "base"),
        cache_key=text_field(document, "cacheKey"),
        is_step=bool_field(document, "isStep"),
    )


def _parse_layer(document: Mapping[str, object]) -> LayerRecord:
    return LayerRecord(
        diff_id=parse_digest(text_field(document, "diffId")),
        blob=parse_digest(text_field(document, "blob")),
        blob_size=int_field(document, "blobSize"),
        media_type=text_field(document, "mediaType"),
        size=int_field(document, "size"),
    )


def _without_key(image: ImageRecord, cache_key: str) -> ImageRecord:
    return replace(image, cache_key="") if image.cache_key == cache_key else image
