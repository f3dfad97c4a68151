"""In the child: walk the steps and become the payload, or say why not and end.

Runs between clone3 and execve in a fork of the shim; imports nothing more, raises nothing.
"""

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from engine.kernel.libc import AT_EMPTY_PATH, KernelError, reason
from engine.runtime import channel, payload, reaper
from engine.runtime.script import REAPER, SUPERVISOR, Call, Known, Script
from engine.runtime.steps import Place, Refused, Step

# Steps are read where they are walked: what that costs in memory goes with execve, while the
# shim, which lives on, stays small.
Plan = Callable[[], Sequence[Step]]


def become(plan: Plan, place: Place) -> NoReturn:
    """Never returns: either this process is another program afterwards, or it is no more."""
    code = 1
    try:
        os.setsid()
        os.umask(0)  # modes are given in full until the payload's own umask is set
        for step in plan():
            run_step(step, place)
    except Refused as refused:
        code = refused.code
        _report(place, str(refused), code)
    except BaseException as error:  # noqa: BLE001 - the end of this process; the text is its log
        _report(place, f"{type(error).__name__}: {error}", code)
    finally:
        os._exit(code)


def use_stdio(descriptors: Sequence[int]) -> None:
    """None of them: a terminal will be opened."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)


def run_step(step: Step, place: Place) -> None:
    try:
        step.run(place)
    except KernelError as error:
        raise Refused(f"cannot {step.describe()}: {error}") from None
    except OSError as error:
        about = f"{error.filename}: " if error.filename else ""
        raise Refused(f"cannot {step.describe()}: {about}{reason(error)}") from None


def _report(place: Place, text: str, code: int) -> None:
    try:
        channel.send(place.supervisor, {"state": "refused", "text": text[:4096], "code": code})
    except OSError:
        # The shim is gone; nobody is left to be told.
        return


@dataclass(frozen=True, slots=True)
class ExecuteBelow(payload.Execute):
    """`docker run --init`: what stays as PID 1 hands signals on and reaps; a child of it becomes
    the payload.

    It is a program of a page (`reaper`), which has lost what the payload has lost: user,
    capabilities, descriptors. Signals are blocked from here on, so it misses none.
    """

    def describe(self) -> str:
        return f"execute {self.arguments[0]} below the container's init"

    def execute(self, program: str, environment: Mapping[str, str], place: Place) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        reaper.become(program, self.arguments, environment, place.supervisor.fileno())

    def executing(
        self, to: Script, known: Known, program: str, path: int, variables: int
    ) -> list[Call]:
        result = to.words(0)
        failed = to.refusal(self.cannot(), result)
        names = (reaper.NAME.encode(), *map(os.fsencode, (program, *self.arguments)))
        all_signals = to.words(-1)
        given = (REAPER, to.text(b""), to.vector(names), variables, AT_EMPTY_PATH)
        return [
            Call("rt_sigprocmask", (signal.SIG_BLOCK, all_signals, 0, 8), failed, result),
            Call("dup3", (SUPERVISOR, reaper.SUPERVISOR, 0), failed, result),
            Call("execveat", given, failed, result),
        ]


def with_reaper(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps, the last of which leaves the container's init."""
    last = steps[-1]
    if not isinstance(last, payload.Execute):
        raise AssertionError(f"the last step is to {last.describe()}")
    return (*steps[:-1], ExecuteBelow(last.arguments, last.environment))
