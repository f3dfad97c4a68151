"""Many containers' output as one text: whole lines, each behind its container's name.

Pure. Colours follow the order in which names are first seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from compose.dataclass import dataclass

# Readable on dark and on light ground; the bright ones follow where there are many services.
COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)


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
