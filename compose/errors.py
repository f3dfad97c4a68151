"""What compose says when it can't go on.

    ComposeError
    ├── ProjectError    the project's files are wrong: every problem found, each with its place
    ├── UsageError      the command line asks for what can't be
    ├── EngineError     the engine can't be reached, or refused a request   (compose/client)
    ├── ApplyError      a change failed half-way; what is done is told      (compose/apply)
    ├── Busy            another pycompose is changing this project
    └── Rehearsed       nothing is wrong: --dry-run ends where something would be changed

The text is made here and in `compose/cli/main.py`, nowhere else.
"""

from collections.abc import Sequence

from compose.dataclass import dataclass
from compose.position import Position


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what, where, and what to do about it."""

    what: str
    at: Position | None = None
    path: str = ""  # where in the model: services.web.ports[0]
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.at}: " if self.at else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{place}{path}{self.what}{hint}"


class ComposeError(Exception):
    """Base of all; `str(error)` is what the user reads."""


class ProjectError(ComposeError):
    """The files don't make a project."""

    def __init__(self, *problems: Problem) -> None:
        self.problems: tuple[Problem, ...] = in_file_order(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class UsageError(ComposeError):
    """Arguments that don't go together or name what isn't there."""


class EngineError(ComposeError):
    """No engine, or it said no."""


class ApplyError(ComposeError):
    """A change to the engine failed. `hint`: how the project stands now, and what to do."""

    hint: str = ""


class Busy(ComposeError):
    """Another process holds the project."""


def first_of(group: BaseException) -> ComposeError:
    """The first error of a group, however deep."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    assert isinstance(group, ComposeError)
    return group


def in_file_order(problems: Sequence[Problem]) -> tuple[Problem, ...]:
    """Without repeats, as one reads a file; files in the order of their first problem."""
    files: dict[str, int] = {}
    for problem in problems:
        if problem.at:
            files.setdefault(problem.at.file, len(files))

    def place(problem: Problem) -> tuple[int, int, int]:
        if problem.at is None:
            return (-1, 0, 0)
        return (files[problem.at.file], problem.at.line, problem.at.column)

    return tuple(sorted(dict.fromkeys(problems), key=place))


class Rehearsed(ComposeError):
    """`lines`: what would be done now."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines
