"""Pure: progress drawn as text, for clients that print what they are sent, as docker-py's do."""

from __future__ import annotations

WIDTH = 50  # signs of a whole bar, as in Docker
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def progress_bar(current: int, total: int) -> str:
    """`[=>     ]  1.5MB/20MB`."""
    if total <= 0:
        return f"{_size(current):>8}"
    done = min(WIDTH, WIDTH * current // total)
    bar = "=" * done + ">" + " " * (WIDTH - done)
    of = f"/{_size(total)}" if current <= total else ""  # else what was announced isn't true
    return f"[{bar}] {_size(current):>8}{of}"


def _size(count: int) -> str:
    """Four digits that count, and a unit of thousands."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    return f"{value:.4g}{_UNITS[unit]}"
