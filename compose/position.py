"""Where in the user's files a value was written."""

from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Position:
    file: str  # as the user would type it: relative to where they are, if it lies below
    line: int  # both count from 1
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"
