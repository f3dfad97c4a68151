"""Pure: what makes a cache key. The same key stands for the same layers: all that a step reads goes
into it, files by their content, and the key of the step before stands for all that lies below."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from engine.oci.image_config import ImageConfig, image_config_json

# Raise it when steps come to do something else with what they are given.
VERSION = "1"


def step_key(parent: str, kind: str, *parts: object) -> str:
    """`parts`: anything that JSON can say."""
    text = json.dumps([VERSION, parent, kind, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def base_key(image_id: str, base: str) -> str:
    return step_key("", "FROM", image_id, base)


def config_key(parent: str, keyword: str, config: ImageConfig) -> str:
    return step_key(parent, keyword, image_config_json(config))


def run_key(
    parent: str,
    words: Sequence[str],
    args: Mapping[str, str],
    network: str,
    mounts: Sequence[Sequence[str]],
) -> str:
    """`args`: the ARGs in its environment, but for the predefined. `mounts`: what each shows."""
    return step_key(parent, "RUN", list(words), dict(args), network, [list(one) for one in mounts])


def copy_key(
    parent: str, keyword: str, sources: Sequence[str], destination: str, flags: Sequence[str]
) -> str:
    """`sources`: digests of what is copied, or keys of the stages and paths in them."""
    return step_key(parent, keyword, list(sources), destination, list(flags))
