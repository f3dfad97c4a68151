"""This terminal at a container: what run, start -a, attach and exec share."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Awaitable
from dataclasses import dataclass

from compose.client.engine import Engine
from compose.client.errors import Conflict, NotFound
from compose.client.terminal import converse, forwarding
from compose.client.transport import Duplex
from engine.containers.streams import DetachKeys, parse_detach_keys


@dataclass(frozen=True, slots=True)
class Wishes:
    """`tty`: as the container was created."""

    tty: bool
    stdin: bool
    stdout: bool = True
    stderr: bool = True
    sig_proxy: bool = True
    detach_keys: str = ""


async def start_and_talk(engine: Engine, container: str, wishes: Wishes, *, removed: bool) -> int:
    """The exit code. `removed`: it is one that goes when it has ended, so wait for that."""
    keys = DetachKeys(parse_detach_keys(wishes.detach_keys))
    condition = "removed" if removed else "next-exit"
    # Both before the start, so that neither output nor exit can be missed.
    duplex = await _attach(engine, container, wishes)
    try:
        async with engine.containers.waiting(container, condition=condition) as exit_code:
            await engine.containers.start(container)
            return await _talk(engine, container, duplex, wishes, keys, exit_code)
    finally:
        await duplex.close()


async def attach_and_talk(engine: Engine, container: str, wishes: Wishes) -> int:
    """The exit code of one that runs; 0 where it was left."""
    keys = DetachKeys(parse_detach_keys(wishes.detach_keys))
    async with engine.containers.waiting(container, condition="not-running") as exit_code:
        duplex = await _attach(engine, container, wishes)
        try:
            return await _talk(engine, container, duplex, wishes, keys, exit_code)
        finally:
            await duplex.close()


async def _attach(engine: Engine, container: str, wishes: Wishes) -> Duplex:
    return await engine.containers.attach(
        container,
        stdin=wishes.stdin,
        stdout=wishes.stdout,
        stderr=wishes.stderr,
        detach_keys=wishes.detach_keys,
    )


async def _talk(
    engine: Engine,
    container: str,
    duplex: Duplex,
    wishes: Wishes,
    keys: DetachKeys,
    exit_code: Awaitable[int],
) -> int:
    async def resize(height: int, width: int) -> None:
        with contextlib.suppress(Conflict, NotFound):  # it is about to end
            await engine.containers.resize(container, height=height, width=width)

    with contextlib.ExitStack() as stack:
        if wishes.sig_proxy and not wishes.tty:  # a terminal's keys come as keys
            stack.enter_context(forwarding(engine.containers, container))
        if await converse(duplex, is_tty=wishes.tty, stdin=wishes.stdin, resize=resize, keys=keys):
            return await exit_code
    print("\nread escape sequence", file=sys.stderr)
    return 0
