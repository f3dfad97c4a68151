"""How a process of a command line begins and ends."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from compose.client.engine import Engine

COLLECT_AFTER = 100_000  # new objects

Met = Callable[["Engine"], object]  # is told of the engine that a command spoke to
# Arguments, environment, working directory -> the exit code.
Main = Callable[[Sequence[str], Mapping[str, str], Path, Met], int]


def ignore(_engine: Engine) -> None:
    """For whoever doesn't care which engine is met."""


def _folder(environment: Mapping[str, str]) -> Path:
    """Where the user is, by the name by which they came, as Go's os.Getwd has it: `PWD`, if that is
    this folder. Behind a symlink it gives a project another name."""
    path = environment.get("PWD", "")
    if os.path.isabs(path):
        with contextlib.suppress(OSError):
            if os.path.samefile(path, "."):
                return Path(path)
    return Path.cwd()


def carry_out(program: str, main: Main, *, is_warm: bool) -> NoReturn:
    """Run what sys.argv says, and end. `is_warm`: in a child of a server."""
    met: list[Engine] = []
    try:
        code = main(sys.argv[1:], os.environ, _folder(os.environ), met.append)
    except BaseException as error:
        # A TaskGroup of Python 3.11 whose child fails while the group is waited for leaves its task
        # as being cancelled; asyncio.run then takes an interrupt for something else.
        asyncio = sys.modules.get("asyncio")
        if asyncio is None or not isinstance(error, asyncio.CancelledError):
            raise
        code = 130
    if met and not is_warm:
        from compose.warm.start import start_server

        start_server(met[0].own_socket, os.environ)
    leave(program, code)


def heed_sigterm() -> None:
    """As Ctrl-C: what is half-way is taken back, where a process that just ends leaves it. Not
    where Ctrl-C is ignored, as for what a script runs in the background: there it would do
    nothing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def collect_seldom() -> None:
    """Nearly all that a command makes stays until its end, modules first: to look for cycles among
    it meanwhile, and once more before the interpreter goes, is a fifth of a short command's
    time."""
    gc.set_threshold(COLLECT_AFTER)


def leave(program: str, code: int) -> NoReturn:
    """End without taking the interpreter apart, piece by piece."""
    gc.freeze()
    if threading.active_count() > 1:
        sys.exit(code)
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:  # whoever read our output has gone
        code = code or 141
    except OSError as error:
        os.write(2, f"{program}: cannot write the output: {error.strerror}\n".encode())
        code = code or 1
    os._exit(code)
