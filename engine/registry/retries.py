"""Pure: how long to wait before a transfer that broke is tried again."""

from collections.abc import Sequence

# Seconds before the next try; a try that brought something starts the count anew.
PAUSES = (0.2, 1.0, 3.0, 8.0)
PROGRESS = 1 << 20  # bytes that make a failed try one that brought something
LONGEST = 60.0  # seconds; who has to wait longer is told so, and may decide for himself


def pauses_for(attempts: int, pauses: Sequence[float] = PAUSES) -> tuple[float, ...]:
    """Between so many tries: the last one is that of all further."""
    more = max(0, attempts - 1 - len(pauses))
    return (*pauses[: attempts - 1], *[pauses[-1]] * more)


def next_pause(pauses: Sequence[float], failures: int, after: float) -> float | None:
    """Seconds, or None to give up. `failures` before this one; `after`: what the server said."""
    if failures >= len(pauses) or after > LONGEST:
        return None
    return max(pauses[failures], after)
