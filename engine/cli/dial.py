"""`pyengine system dial-stdio`: standard input and output are a connection to the engine. ssh runs
it for a client on another machine."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading

import typer

from compose.client.engine import Engine
from engine.cli.session import on_engine

_BLOCK = 1 << 16


def dial_stdio(ctx: typer.Context) -> None:
    """It ends when the engine does; the end of the input is told to the engine."""
    on_engine(ctx, _connect)


async def _connect(engine: Engine) -> None:
    duplex = await engine.transport.dial()
    # Nothing ends a read that waits, so what reads must not be waited for: a thread of its own.
    ours, theirs = socket.socketpair()
    threading.Thread(target=_read, args=(sys.stdin.fileno(), theirs), daemon=True).start()
    typed, back = await asyncio.open_unix_connection(sock=ours)

    async def send() -> None:
        while block := await typed.read(_BLOCK):
            await duplex.write(block)
        duplex.finish_writing()

    sending = asyncio.create_task(send())
    try:
        while block := await duplex.reader.read(_BLOCK):
            await asyncio.to_thread(_write, block)
    finally:
        sending.cancel()
        await asyncio.wait((sending,))
        back.close()
        await duplex.close()


def _read(descriptor: int, to: socket.socket) -> None:
    with to:
        try:
            while block := os.read(descriptor, _BLOCK):
                to.sendall(block)
        except ConnectionError:
            pass  # the engine has hung up


def _write(block: bytes) -> None:
    sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
