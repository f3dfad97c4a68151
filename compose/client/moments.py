"""Times that people type: RFC 3339, a date, seconds since the epoch, or how long ago."""

from __future__ import annotations

import re
import time
from datetime import datetime

from compose.errors import UsageError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])")


def api_time(text: str, option: str) -> str:
    """Seconds since the epoch as the Engine API takes them; empty stays empty."""
    if not text or re.fullmatch(r"\d+(\.\d+)?", text):
        return text
    pieces = _DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
        return f"{time.time() - seconds:.9f}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{option}: cannot read {text!r} as a time; write 10m, 2026-11-22T12:00:00 or seconds"
        ) from None
    # Neither datetime nor a float holds the nanoseconds of a log's stamp.
    fraction = re.search(r"\.(\d+)", text)
    return f"{int(moment.timestamp() // 1)}.{fraction[1] if fraction else '0':0<9}"
