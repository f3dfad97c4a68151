"""The messages of `channel`, for one who has an event loop: it waits by that."""

import asyncio
import socket

from engine.runtime import channel


async def receive(connection: socket.socket) -> channel.Message | None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return channel.receive(connection)
        except BlockingIOError:
            readable = loop.create_future()
            loop.add_reader(connection.fileno(), _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(connection.fileno())


async def send(connection: socket.socket, body: bytes, descriptors: tuple[int, ...]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            channel.send_encoded(connection, body, descriptors)
            return
        except BlockingIOError:
            writable = loop.create_future()
            loop.add_writer(connection.fileno(), _wake, writable)
            try:
                await writable
            finally:
                loop.remove_writer(connection.fileno())


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
