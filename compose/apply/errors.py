"""What applying a plan raises.

ApplyError (compose/errors.py)
├── StepsFailed    some steps failed; each with its reason, and what was skipped for it
└── WaitFailed     a dependency or a --wait did not come to what was waited for
    └── UpdatePaused   too many new containers of a service didn't come up; all stays as it is
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

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
    ("unable to find group", "name one that the image has, or write numbers",
     ("group_add", "user")),
    ("chdir to cwd", "it must be a directory that the user may enter", ("working_dir",)),
    ("the working directory", "write it from the root on, as in /srv/app", ("working_dir",)),
    ("invalid mount path", "write it from the root on, as in /run", ("tmpfs", "volumes")),
    ("invalid capadd", "capabilities(7) has their names: NET_ADMIN, SYS_TIME, ...", ("cap_add",)),
    ("invalid capdrop", "capabilities(7) has their names: NET_RAW, CHOWN, ALL, ...",
     ("cap_drop",)),
    ("invalid ulimit type", "they are nofile, nproc, memlock, core and others of setrlimit(2)",
     ("ulimits",)),
    ("no log driver named", "without logging: driver: it is the engine's own", ("logging",)),
    ("sysctl '", "it can be set for the whole machine only", ("sysctls",)),
    ("bad dns server address", "write the address of a machine, as in 9.9.9.9", ("dns",)),
    ("ip address in add-host", "write name=address, as in db.local=10.0.0.5", ("extra_hosts",)),
    ("adding custom device", "name a device of the engine's machine", ("devices",)),
    ("invalid signal", "kill -l lists them", ("stop_signal",)),
    ("does not match the specified platform", "leave platform out, or name another image",
     ("platform",)),
    ("invalid runtime name", "leave it out, or name one that the engine has", ("runtime",)),
    ("invalid ipc mode", "it can be shareable, private, host, none, service:NAME", ("ipc",)),
    ("invalid pid mode", "it can be host, service:NAME or container:NAME", ("pid",)),
    ("invalid --security-opt", "write no-new-privileges:true, seccomp=FILE or apparmor=PROFILE",
     ("security_opt",)),
    ("container networking: network", "declare it under networks:, and name it in the service's",
     ("network_mode", "networks")),
    ("minimum memory limit", "give it more", ("mem_limit", "deploy")),
    ("range of cpus", "ask for less", ("cpus", "deploy")),
    ("requested cpus are not available", "name those that there are", ("cpuset",)),
    ("requested memory nodes", "name those that there are", ("cpuset",)),
    ("memoryswap limit", "mem_limit goes with it, and is the smaller one", ("memswap_limit",)),
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


def place_for(message: str, written: Callable[[str], Position | None]) -> Position | None:
    """Where an engine's refusal has its cause, of the attributes of a service that are written."""
    return next((at for key in _known(message)[1] if (at := written(key))), None)


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
