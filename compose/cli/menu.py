"""The keys of `up` in a terminal: d leaves the containers running, w follows changes of files."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from compose.cli.context import Context

HINT = "d: detach   w: watch files   Ctrl-C: stop"


def wanted(context: Context, option: bool | None) -> bool:
    """--menu, then COMPOSE_MENU, then whether somebody sits there."""
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if option is not None:
        return option and at_terminal
    if context.environment.get("COMPOSE_MENU"):
        return context.is_on("COMPOSE_MENU") and at_terminal
    return at_terminal


@asynccontextmanager
async def keys(wanted: bool) -> AsyncIterator[asyncio.Queue[str]]:
    """Letters as they are typed, not echoed; Ctrl-C stays a signal. None come where they aren't
    wanted."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    if not wanted:
        yield queue
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    loop = asyncio.get_running_loop()

    def read() -> None:
        text = os.read(descriptor, 64).decode("utf-8", "replace")
        if not text:
            loop.remove_reader(descriptor)
        for letter in text:
            queue.put_nowait(letter)

    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield queue
    finally:
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
