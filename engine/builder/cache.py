"""Pure: what makes a cache key. The same key stands for the same layers: all that a step reads goes
into it, files by their content, and for what lies below the digests of its layers."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from engine.oci.digest import Digest
from engine.oci.image_config import HistoryEntry, ImageDocument, image_config_json

# Raise it when steps come to do something else with what they are given.
VERSION = "2"


def step_key(parent: str, kind: str, *parts: object) -> str:
    """`parts`: anything that JSON can say."""
    text = json.dumps([VERSION, parent, kind, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def state_key(document: ImageDocument, base: str) -> str:
    """Of what lies below a step: layers, configuration, and the words that led there (two ways
    to the same files are two histories). `base`: a directory of the host below the layers."""
    return step_key(
        "",
        "STATE",
        list(document.diff_ids),
        image_config_json(document.config),
        [line.created_by for line in document.history],
        document.author,
        str(document.platform),
        base,
    )


def run_key(
    parent: str,
    words: Sequence[str],
    args: Mapping[str, str],
    network: str,
    hosts: Sequence[str],
    mounts: Sequence[Sequence[str]],
    *,
    is_privileged: bool,
) -> str:
    """`args`: the ARGs in its environment, but for the predefined. `hosts`: its own name where one
    is given, and the names it knows besides. `mounts`: what each shows."""
    shown = [list(one) for one in mounts]
    return step_key(
        parent, "RUN", list(words), dict(args), network, list(hosts), shown, is_privileged
    )


def copy_key(
    parent: str, keyword: str, sources: Sequence[str], destination: str, flags: Sequence[str]
) -> str:
    """`sources`: digests of what is copied."""
    return step_key(parent, keyword, list(sources), destination, list(flags))


def remembered(
    document: ImageDocument, created_by: str, image: ImageDocument
) -> tuple[HistoryEntry, Digest | None] | None:
    """What the next step made of these layers when that image was built, by its history: the line
    of that step, and its layer if it has one. None where it began, or went on, otherwise."""
    so_far, layers = document.history, document.diff_ids
    before, after = image.history[: len(so_far)], image.history[len(so_far) :]
    if _words(before) != _words(so_far) or image.diff_ids[: len(layers)] != layers:
        return None
    if not after or after[0].created_by != created_by:
        return None
    if after[0].empty_layer:
        return after[0], None
    own = image.diff_ids[len(layers) :]
    return (after[0], own[0]) if own else None


def _words(history: Sequence[HistoryEntry]) -> list[tuple[str, bool]]:
    return [(line.created_by, line.empty_layer) for line in history]
