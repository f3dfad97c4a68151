"""Reads archives of Docker before 1.10 (image-spec v1): a folder an image, each with the json of
one layer and the id of its parent; `repositories` says what they are called.

Such an image has no configuration document: it is put together out of the json of all its layers.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.errors import InvalidRequest
from engine.images.archive import ArchivedImage, Spool, content_of
from engine.images.blobs import Written, write_pieces
from engine.oci.document import as_object, as_text, object_field, parse_object, text_field
from engine.oci.image_config import MAX_LAYERS
from engine.oci.reference import Reference, parse_reference, parse_tag

REPOSITORIES = "repositories"
# What says where a layer lies, and not what the image is.
_OF_THE_LAYER = ("id", "parent", "parent_id", "layer_id", "throwaway", "Size", "layer_digest")
_Layer = tuple[Mapping[str, object], Written]


def is_legacy(spool: Spool) -> bool:
    """Later archives have `repositories` as well, for readers of long ago."""
    has_newer = spool.has("manifest.json") or spool.has("index.json")
    return spool.has(REPOSITORIES) and not has_newer


def legacy_images(spool: Spool, folder: Path) -> tuple[ArchivedImage, ...]:
    """Those that have a name. Their configurations become files of `folder`."""
    named: dict[str, list[Reference]] = {}
    content = content_of(spool.file(REPOSITORIES, "list of names"))
    for repository, tags in parse_object(content, REPOSITORIES).items():
        for tag, image_id in as_object(tags, REPOSITORIES).items():
            name = replace(parse_reference(repository), tag=parse_tag(tag), digest="")
            named.setdefault(as_text(image_id, REPOSITORIES), []).append(name)
    if not named:
        raise InvalidRequest(f"invalid archive: {REPOSITORIES} names no image")
    return tuple(_image(spool, each, tuple(names), folder) for each, names in named.items())


def _image(
    spool: Spool, image_id: str, names: tuple[Reference, ...], folder: Path
) -> ArchivedImage:
    layers = _layers(spool, image_id)
    document = _configuration(layers)
    written = write_pieces(lambda put: put(json.dumps(document).encode()), folder)
    return ArchivedImage(written, tuple(layer for _, layer in layers), names)


def _layers(spool: Spool, image_id: str) -> list[_Layer]:
    """Of the image, bottom first."""
    found: list[_Layer] = []
    while image_id:
        if len(found) == MAX_LAYERS:
            raise InvalidRequest(f"invalid archive: an image of more than {MAX_LAYERS} layers")
        content = content_of(spool.file(f"{image_id}/json", "image"))
        document = parse_object(content, f"{image_id}/json")
        found.insert(0, (document, spool.file(f"{image_id}/layer.tar", "layer")))
        image_id = text_field(document, "parent")
    return found


def _configuration(layers: list[_Layer]) -> Mapping[str, object]:
    *_, (top, _) = layers
    return {
        **{key: value for key, value in top.items() if key not in _OF_THE_LAYER},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for _, layer in layers]},
        "history": [_history(document) for document, _ in layers],
    }


def _history(document: Mapping[str, object]) -> Mapping[str, object]:
    """One line; that a layer is empty isn't known of these: each has a tar."""
    command = object_field(document, "container_config").get("Cmd")
    line: dict[str, object] = {
        key: text_field(document, key) for key in ("created", "author", "comment")
    }
    if isinstance(command, list):
        line["created_by"] = " ".join(map(str, command))
    return line
