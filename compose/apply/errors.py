"""What applying a plan raises.

ApplyError (compose/errors.py)
├── StepsFailed    some steps failed; each with its reason, and what was skipped for it
└── WaitFailed     a dependency or a --wait did not come to what was waited for
    └── UpdatePaused   too many new containers of a service didn't come up; all stays as it is
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from compose.dataclass import dataclass
from compose.errors import ApplyError
from compose.position import Position


class WaitFailed(ApplyError):
    """`what` in one sentence; `details` are lines of a log or of a probe."""

    def __init__(self, what: str, *, details: Sequence[str] = (), hint: str = "") -> None:
        lines = [what, *(f"  {line}" for line in details)]
        if hint:
            lines.append(f"  hint: {hint}")
        super().__init__("\n".join(lines))
        self.what = what
        self.details = tuple(details)


class UpdatePaused(WaitFailed):
    """It is applied in part: what has been replaced stays so, also where it doesn't work."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A step that failed, as people call it (`start web.1`), and why."""

    step: str
    error: Exception
    place: str = ""  # where the service, or what of it is the cause, is written

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        verb, _, rest = self.step.partition(" ")
        if verb != "await":
            # Engines begin some refusals with the same words, and the container's id.
            reason = re.sub(rf"^cannot {verb} container:? \S+: ", "", str(self.error))
            return f"{where}cannot {self.step}: {reason}{hint_for(reason)}"
        service, _, condition = rest.rpartition(" ")
        return f"{where}{service} {IN_VAIN[condition]}: {self.error}"


# Words of the engine's refusals -> what to do; which of a service's attributes they speak of, the
# first that is written. The first row that fits.
HINTS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("unable to start container process: exec:",
     "the image must have that program, and it must be executable", ("entrypoint", "command")),
    ("unable to find user", "name one that the image has, or write numbers", ("user",)),
    ("chdir to cwd", "it must be a directory that the user may enter", ("working_dir",)),
    ("port is already allocated", "publish another port, or stop who has it", ("ports",)),
    ("address already in use", "publish another port, or stop who has it", ("ports",)),
    ("pull access denied", "correct the image's name, or log in to its registry", ()),
    ("no basic auth credentials", "log in to its registry: pyengine login", ()),
    ("unauthorized: ", "log in to its registry: pyengine login", ()),
    ("dial tcp", "check the name of the registry, and the engine's way to the network", ()),
    ("no space left on device",
     "make room where the engine keeps its data, then run this again", ()),
)  # fmt: skip


def hint_for(message: str) -> str:
    """A line to put behind an engine's refusal; empty where nothing is known, or said already."""
    # What a step of a build says is the step's affair: its network isn't that of pulls.
    is_said = "hint: " in message or "returned a non-zero code" in message
    hint = "" if is_said else _known(message)[0]
    return f"\n  hint: {hint}" if hint else ""


def place_for(message: str, places: Mapping[str, Position]) -> Position | None:
    """Where an engine's refusal has its cause, of the attributes of a service that are written."""
    return next((places[key] for key in _known(message)[1] if key in places), None)


def _known(message: str) -> tuple[str, tuple[str, ...]]:
    fitting = ((hint, keys) for words, hint, keys in HINTS if words in message.lower())
    return next(fitting, ("", ()))


MOST_SHOWN = 6
IN_VAIN = {
    "started": "did not start",
    "healthy": "did not become healthy",
    "completed": "did not complete",
}


def _some(changes: Sequence[str]) -> str:
    """A line that can be read; the rows of each stand above it."""
    shown = ", ".join(changes[:MOST_SHOWN])
    return shown if len(changes) <= MOST_SHOWN else f"{shown} and {len(changes) - MOST_SHOWN} more"


class StepsFailed(ApplyError):
    def __init__(
        self,
        failures: Sequence[Failure],
        *,
        skipped: Sequence[str] = (),
        undone: Sequence[str] = (),
        undo_failures: Sequence[Failure] = (),
    ) -> None:
        lines = [str(failure) for failure in failures]
        if skipped:
            lines.append(f"not done because of that: {_some(skipped)}")
        if others := [change for change in undone if change not in skipped]:
            lines.append(f"taken back: {_some(others)}")
        lines += [f"could not be taken back: {failure}" for failure in undo_failures]
        super().__init__("\n".join(lines))
        self.failures = tuple(failures)
        paused = [each.error for each in failures if isinstance(each.error, UpdatePaused)]
        self.paused = "; ".join(each.what for each in paused)  # "": nothing is applied in part
        self.skipped = tuple(skipped)
        self.undone = tuple(undone)
        self.undo_failures = tuple(undo_failures)
