"""Bytes and durations: how Compose writes them and how they are read. Pure."""

import math
import re
from typing import NewType

Bytes = NewType("Bytes", int)
Duration = NewType("Duration", int)  # nanoseconds, the Engine API's unit

_BYTES = re.compile(
    r"\s*(-?\d{1,19}(?:\.\d{1,18})?|\.\d{1,18})\s*([kmgtp]?)(i?b)?\s*", re.IGNORECASE
)
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}

_MICROSECOND, _MILLISECOND, _SECOND = 1_000, 1_000_000, 1_000_000_000
_MINUTE, _HOUR = 60 * _SECOND, 3600 * _SECOND
_UNITS = {
    "ns": 1,
    "us": _MICROSECOND,
    "µs": _MICROSECOND,
    "μs": _MICROSECOND,
    "ms": _MILLISECOND,
    "s": _SECOND,
    "m": _MINUTE,
    "h": _HOUR,
    "d": 24 * _HOUR,
    "w": 7 * 24 * _HOUR,
}
_PIECE = re.compile(r"(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(ns|us|µs|μs|ms|s|m|h|d|w)")


def parse_bytes(text: str) -> Bytes:
    """`64m`, `1.5g`, `512`: units are powers of 1024. Raises ValueError with a reason to show."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    value = float(match[1]) * _SCALE[match[2].lower()]
    # Whole numbers stay exact beyond 2**53.
    exact = int(match[1]) * _SCALE[match[2].lower()] if match[1].lstrip("-").isdigit() else None
    return Bytes(exact if exact is not None else math.floor(value))


def parse_duration(text: str) -> Duration:
    """`1m30s`, `500ms`, `1.5h`, `2d`: Raises ValueError with a reason to show."""
    body = text.strip()
    sign = -1 if body.startswith("-") else 1
    body = body.lstrip("+-")
    if body == "0":
        return Duration(0)
    if not body:
        raise ValueError("a duration can't be empty")
    total, at = 0.0, 0
    exact = 0
    for piece in _PIECE.finditer(body):
        if piece.start() != at:
            break
        at = piece.end()
        scale = _UNITS[piece[2]]
        if piece[1].isdigit():
            exact += int(piece[1]) * scale
        else:
            total += float(piece[1]) * scale
    if at != len(body):
        if re.fullmatch(r"\d+(\.\d+)?", body):
            raise ValueError(f"{text!r} has no unit")
        raise ValueError(f"{text!r} is not a duration")
    return Duration(sign * (exact + round(total)))


def format_duration(duration: Duration) -> str:
    """As Go prints it, which is what Compose shows: 90 s -> `1m30s`, 1500 µs -> `1.5ms`."""
    if duration == 0:
        return "0s"
    sign = "-" if duration < 0 else ""
    left = abs(duration)
    if left < _SECOND:
        for name, unit in (("ms", _MILLISECOND), ("µs", _MICROSECOND), ("ns", 1)):
            if left >= unit:
                return f"{sign}{_decimal(left, unit)}{name}"
    hours, left = divmod(left, _HOUR)
    minutes, left = divmod(left, _MINUTE)
    text = f"{hours}h" if hours else ""
    if hours or minutes:
        text += f"{minutes}m"
    return f"{sign}{text}{_decimal(left, _SECOND)}s"


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    fraction = str(rest).zfill(digits).rstrip("0") if digits and rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def seconds(duration: Duration) -> float:
    return duration / _SECOND
