"""What a server runs, and what it has done before anybody calls."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping
from pathlib import Path

# Their `command` is what a cold process runs as well. By name: each imports this package.
PROGRAMS = {"pycompose": "compose.__main__", "pyengine": "engine.cli.main"}
_COMMAND_LINES = {"pycompose": "compose.cli.main", "pyengine": "engine.cli.app"}
# Commands that people run again and again, in a way that changes nothing. Rarer ones import what
# they need in the child.
_REHEARSED = (
    ("pycompose", "up", "--dry-run"),
    ("pycompose", "up", "-d", "--dry-run"),
    ("pycompose", "down", "--dry-run"),
    ("pycompose", "build", "--dry-run"),
    ("pycompose", "ps"),
    ("pycompose", "logs"),
    ("pycompose", "complete", "--", "up", ""),
    *(("pycompose", name, "--help") for name in ("config", "exec", "restart", "start", "stop")),
    ("pyengine", "ps"),
    ("pyengine", "images"),
    *(("pyengine", name, "--help") for name in ("build", "exec", "inspect", "logs", "rm", "run")),
)
# What is imported only once there is something to do.
_MODULES = ("compose.apply.perform", "compose.history", "concurrent.futures.thread")


def rehearse(engine: str) -> None:
    """Import what commands need, and let all that is made at its first use be made: of a project
    that isn't there, on the engine that listens at `engine`, changing nothing."""
    for command in _REHEARSED:
        _carry_out(command, {"PYCOMPOSE_HOST": f"unix://{engine}"})
    for name in (*PROGRAMS.values(), *_MODULES):
        importlib.import_module(name)


def take_memory() -> None:
    """In a child that waits: have what commands write to. What it shares with the server is copied
    page by page at the first write, and to look at an object is to write to it (how many refer to
    it): otherwise a third of a short command's time. Speaks to no engine."""
    _carry_out(("pycompose", "config", "-q"), {})
    asyncio.run(asyncio.sleep(0))


def _carry_out(command: tuple[str, ...], environment: Mapping[str, str]) -> None:
    program, *words = command
    folder = Path(__file__).parent
    usual = {"COMPOSE_FILE": str(folder / "rehearsal.yaml"), "HOME": "/nowhere"}
    main = importlib.import_module(_COMMAND_LINES[program]).main
    main(words, {**usual, **environment}, folder)
