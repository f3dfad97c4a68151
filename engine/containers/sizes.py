"""Pure: sizes as people write them."""

import re

from engine.errors import InvalidRequest

_SIZE = re.compile(r"(\d{1,15})\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes from "10m", "1g", "64KiB". Raises InvalidRequest."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(f"invalid size: '{text}'")
    return int(match[1]) << (10 * "bkmgt".index(match[2].lower() or "b"))
