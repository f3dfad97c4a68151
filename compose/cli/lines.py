"""Many containers' output as one text: whole lines, each behind its container's name.

Pure: bytes in, text out. Colours follow the order in which names are first seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field

from compose.dataclass import dataclass

# Readable on dark and on light ground; the bright ones follow where there are many services.
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
LONGEST = 64 * 1024  # bytes of one line before it is printed in pieces


@dataclass(slots=True)
class LineMaker:
    """Turns the chunks of one stream into lines. Bytes that are no UTF-8 become U+FFFD."""

    rest: bytes = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        self.rest += chunk
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            yield _text(line)
        if len(self.rest) > LONGEST:
            yield from self.flush()

    def flush(self) -> Iterator[str]:
        """The line without an end that is left."""
        if self.rest:
            line, self.rest = self.rest, b""
            yield _text(line)


def _text(line: bytes) -> str:
    # A carriage return inside a line redraws it (progress bars); the last drawing is what one sees.
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")


@dataclass(slots=True)
class Prefixer:
    """Puts `name  | ` before each line, aligned over all names known so far."""

    names: Sequence[str] = ()
    colour: bool = False
    show: bool = True
    width: int = field(init=False)
    _order: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._order = {name: index for index, name in enumerate(self.names)}
        self.width = max((len(name) for name in self.names), default=0)

    def line(self, name: str, text: str) -> str:
        if not self.show:
            return text
        index = self._order.setdefault(name, len(self._order))
        self.width = max(self.width, len(name))
        prefix = f"{name.ljust(self.width)}  | "
        if self.colour:
            prefix = f"\x1b[{COLOURS[index % len(COLOURS)]}m{prefix}\x1b[0m"
        return prefix + text
