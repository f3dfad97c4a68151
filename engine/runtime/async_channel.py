"""The messages of `channel`, for one who has an event loop: it waits by that."""

import asyncio
import socket
from collections.abc import Callable

from engine.runtime import channel


async def receive(connection: socket.socket) -> channel.Message | None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return channel.receive(connection)
        except BlockingIOError:
            await _ready(connection.fileno(), loop.add_reader, loop.remove_reader)


async def send(connection: socket.socket, body: bytes, descriptors: tuple[int, ...]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            channel.send_encoded(connection, body, descriptors)
            return
        except BlockingIOError:
            await _ready(connection.fileno(), loop.add_writer, loop.remove_writer)


async def _ready(
    descriptor: int, watch: Callable[..., object], forget: Callable[[int], object]
) -> None:
    waiting = asyncio.get_running_loop().create_future()
    watch(descriptor, _wake, waiting)
    try:
        await waiting
    finally:
        forget(descriptor)


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
