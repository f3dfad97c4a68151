"""A process of a container on this terminal: keys in, output out, the window's size passed on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import threading
import tty
from collections.abc import Awaitable, Callable, Iterator
from typing import Protocol

from compose.client.containers import Containers
from compose.client.errors import Conflict, NotFound
from compose.client.streams import Source, outputs, read_blocks
from compose.client.transport import Duplex

BLOCK = 32 * 1024
# What a person or a program sends to what it started.
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1,
             signal.SIGUSR2)  # fmt: skip
Resize = Callable[[int, int], Awaitable[None]]  # height, width


def stdin_is_terminal() -> bool:
    return sys.stdin.isatty()


def terminal_size() -> tuple[int, int] | None:
    """Height and width of the terminal that shows the output, if it is one."""
    try:
        size = os.get_terminal_size(1)
    except OSError:
        return None
    return size.lines, size.columns


@contextlib.contextmanager
def unechoed() -> Iterator[None]:
    """For as long as the screen is drawn: a letter that is typed meanwhile would move the cursor
    and with it all that is drawn next. It isn't lost."""
    if not stdin_is_terminal() or not _is_in_front(descriptor := sys.stdin.fileno()):
        yield
        return
    before = termios.tcgetattr(descriptor)
    silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _is_in_front(descriptor: int) -> bool:
    """Whether the terminal is ours to change: the kernel stops who does it from the background."""
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:  # another session's
        return False


@contextlib.contextmanager
def raw_terminal() -> Iterator[None]:
    """Keys reach the container one by one; the terminal is put back whatever happens."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed meanwhile isn't lost
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class DetachKeys(Protocol):
    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What goes on to the process, and whether the keys to leave it were seen."""


async def converse(
    duplex: Duplex,
    *,
    is_tty: bool,
    stdin: bool,
    resize: Resize,
    keys: DetachKeys | None = None,
) -> bool:
    """Until the process has ended its output. Raw mode where both sides are terminals; only then
    are `keys` looked for. False: it was left by them."""
    left = asyncio.Event()
    with contextlib.ExitStack() as stack:
        if is_tty and stdin and stdin_is_terminal():
            stack.enter_context(raw_terminal())
            stack.enter_context(_resizing(resize))
        else:
            keys = None
        if stdin:
            _forward_stdin(duplex, keys, left)
        printing = asyncio.ensure_future(_print(duplex, is_tty))
        leaving = asyncio.ensure_future(left.wait())
        try:
            await asyncio.wait((printing, leaving), return_when=asyncio.FIRST_COMPLETED)
            if printing.done():
                printing.result()
        finally:
            printing.cancel()
            leaving.cancel()
    return not left.is_set()


async def _print(duplex: Duplex, is_tty: bool) -> None:
    async for output in outputs(read_blocks(duplex), tty=is_tty):
        write_all(2 if output.source is Source.STDERR else 1, output.text)


def write_all(descriptor: int, block: bytes) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


def _forward_stdin(duplex: Duplex, keys: DetachKeys | None, left: asyncio.Event) -> None:
    """In a thread of its own: standard input may be a file, a pipe or a terminal, and only a
    blocking read works on all three. A daemon thread, so that a waiting read can't hold the exit.
    """
    loop = asyncio.get_running_loop()

    def copy() -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the process or the loop has ended
            while block := os.read(0, BLOCK):
                seen = False
                if keys is not None:
                    block, seen = keys.feed(block)
                asyncio.run_coroutine_threadsafe(duplex.write(block), loop).result()
                if seen:
                    loop.call_soon_threadsafe(left.set)
                    return
            loop.call_soon_threadsafe(duplex.finish_writing)

    threading.Thread(target=copy, name="stdin", daemon=True).start()


@contextlib.contextmanager
def _resizing(resize: Resize) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def tell() -> None:
        size = os.get_terminal_size(0)
        with contextlib.suppress(Conflict, NotFound):  # it has ended meanwhile
            await resize(size.lines, size.columns)

    def changed() -> None:
        task = asyncio.ensure_future(tell())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    changed()
    loop.add_signal_handler(signal.SIGWINCH, changed)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGWINCH)


@contextlib.contextmanager
def forwarding(containers: Containers, container: str) -> Iterator[None]:
    """Signals that reach us go on to the container."""
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def tell(number: signal.Signals) -> None:
        with contextlib.suppress(Conflict, NotFound):  # it has ended meanwhile
            await containers.kill(container, signal=number.name)

    def forward(number: signal.Signals) -> None:
        task = loop.create_task(tell(number))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    for number in FORWARDED:
        loop.add_signal_handler(number, forward, number)
    try:
        yield
    finally:
        for number in FORWARDED:
            loop.remove_signal_handler(number)
