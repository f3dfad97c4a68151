"""How far something is, told now and then."""

import time
from collections.abc import Callable

from engine.errors import Failure
from engine.images.compression import Source

REPORT_EVERY = 0.1  # seconds


class Throttle:
    """Calls at most ten times a second."""

    def __init__(self, call: Callable[[int], object]) -> None:
        self._call = call
        self._due = 0.0

    def at(self, position: int) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = now + REPORT_EVERY
            self._call(position)


class Watched:
    """A file that tells how far it was read, and that can be made to fail."""

    def __init__(self, source: Source, throttle: Throttle) -> None:
        self._source = source
        self._throttle = throttle
        self._position = 0
        self._is_aborted = False

    def read(self, size: int, /) -> bytes:
        if self._is_aborted:
            raise Failure("the transfer was cancelled")
        chunk = self._source.read(size)
        self._position += len(chunk)
        self._throttle.at(self._position)
        return chunk

    def abort(self) -> None:
        self._is_aborted = True
