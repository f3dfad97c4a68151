"""What is told while a plan is applied. Nothing is printed here: `cli/progress.py` listens."""

from __future__ import annotations

from typing import Protocol

from compose.client.images import Progress
from compose.dataclass import dataclass
from compose.plan.plan import Plan, Step


@dataclass(frozen=True, slots=True)
class Planned:
    """Comes first, once a plan: what all the following steps belong to."""

    plan: Plan


@dataclass(frozen=True, slots=True)
class Started:
    step: Step


@dataclass(frozen=True, slots=True)
class Finished:
    step: Step


@dataclass(frozen=True, slots=True)
class Failed:
    step: Step
    error: Exception


@dataclass(frozen=True, slots=True)
class Skipped:
    """Not done, because of a step before it."""

    step: Step
    because: str


@dataclass(frozen=True, slots=True)
class Undone:
    """A finished step was taken back."""

    step: Step


@dataclass(frozen=True, slots=True)
class Replacing:
    """How far a container of a service's update is: working, done, failed, skipped, taken back."""

    slot: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Readying:
    """A container that is to be ready at the end, beside what others wait for."""

    slot: str
    wanted: str  # "healthy"; "up", where it has no check
    state: str  # working, done, failed
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Pulling:
    reference: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Pushing:
    reference: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class Building:
    """A line that a build wrote."""

    reference: str
    line: str


@dataclass(frozen=True, slots=True)
class Hooked:
    """A line that a hook wrote, inside of a container."""

    container: str
    line: str


@dataclass(frozen=True, slots=True)
class Note:
    """A warning that stops nothing."""

    text: str


Report = (
    Planned
    | Started
    | Finished
    | Failed
    | Skipped
    | Undone
    | Replacing
    | Readying
    | Pulling
    | Pushing
    | Building
    | Hooked
    | Note
)


class Listener(Protocol):
    def __call__(self, report: Report, /) -> None: ...


def silent(report: Report, /) -> None:
    """For those who don't listen."""
