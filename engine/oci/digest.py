"""Digests of content: `sha256:` and 64 lower-case hex digits.

A digest is matched here before it becomes a file name. Other algorithms are refused: the store
could not verify them.
"""

import hashlib
import re
from typing import NewType

from engine.errors import InvalidRequest

Digest = NewType("Digest", str)

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")
_ANY_ALGORITHM = re.compile(r"([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*):([0-9a-fA-F]+)")


def parse_digest(text: str) -> Digest:
    """Raises InvalidRequest in Docker's words."""
    if _SHA256.fullmatch(text):
        return Digest(text)
    match = _ANY_ALGORITHM.fullmatch(text)
    if match is None:
        raise InvalidRequest("invalid checksum digest format")
    if match[1] != "sha256":
        raise InvalidRequest(f"unsupported digest algorithm: {match[1][:32]}")
    raise InvalidRequest("invalid checksum digest length")


def is_digest(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def digest_of(content: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


def hex_part(digest: Digest) -> str:
    return digest.removeprefix("sha256:")


def chain_id(diff_ids: tuple[Digest, ...]) -> Digest:
    """Identity of a stack of layers (image-spec, config.md "Layer ChainID")."""
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = digest_of(f"{chain} {diff_id}".encode())
    return chain
