"""pure: durations and sizes in the words of Docker's commands."""

from __future__ import annotations

# The largest unit that fits twice is the one that reads best: "90 seconds" but "2 minutes".
_UNITS = (
    (2 * 365 * 86400, 365 * 86400, "years"),
    (60 * 86400, 30 * 86400, "months"),
    (14 * 86400, 7 * 86400, "weeks"),
    (2 * 86400, 86400, "days"),
    (2 * 3600, 3600, "hours"),
    (2 * 60, 60, "minutes"),
)


def human_duration(seconds: float) -> str:
    """About how long, in the words of `docker ps`."""
    for least, unit, name in _UNITS:
        if seconds >= least:
            return f"{int(seconds // unit)} {name}"
    if seconds >= 60:
        return "About a minute"
    if seconds >= 2:
        return f"{int(seconds)} seconds"
    return "1 second" if seconds >= 1 else "Less than a second"


def ago(created: float, now: float) -> str:
    return f"{human_duration(max(0.0, now - created))} ago"


def human_size(size: float, *, base: int = 1000, digits: int = 4) -> str:
    """Bytes as Docker writes them: 1.04MB for files (base 1000), 388KiB for memory (1024)."""
    units = ("B", "kB", "MB", "GB", "TB", "PB") if base == 1000 else (
        "B", "KiB", "MiB", "GiB", "TiB", "PiB")  # fmt: skip
    power = 0
    while size >= base and power < len(units) - 1:
        size /= base
        power += 1
    return f"{size:.{digits}g}{units[power]}"


def counted(count: int, what: str) -> str:
    """`1 file`, `2 files`"""
    return f"{count} {what}{'s' * (count != 1)}"


def shorten(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
