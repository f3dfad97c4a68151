"""Attach over a WebSocket: raw bytes in binary messages both ways, both outputs in one stream."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from aiohttp import WSMsgType, web

from engine.api.parts import Engine
from engine.api.request import Request
from engine.containers.operations import Streams
from engine.errors import InvalidRequest

log = logging.getLogger(__name__)
_HEAD = 8
_LARGEST_MESSAGE = 1 << 20


class Unframed:
    """Docker's frames of 8 bytes head and a payload -> the payloads, however they are cut."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._left = 0  # bytes of the present payload that are to come

    def feed(self, data: bytes) -> bytes:
        payload = bytearray()
        position = 0
        while position < len(data):
            if not self._left:
                taken = data[position : position + _HEAD - len(self._head)]
                self._head += taken
                position += len(taken)
                if len(self._head) == _HEAD:
                    self._left = int.from_bytes(self._head[4:], "big")
                    self._head.clear()
                continue
            piece = data[position : position + self._left]
            payload += piece
            position += len(piece)
            self._left -= len(piece)
        return bytes(payload)


async def attach(request: Request, engine: Engine) -> web.StreamResponse:
    query = request.query
    record = engine.containers.get(request["id"])
    socket = web.WebSocketResponse(max_msg_size=_LARGEST_MESSAGE)
    if not socket.can_prepare(request.http):
        raise InvalidRequest("cannot attach: the request is no WebSocket handshake")
    # Before API 1.42 all three were taken, whatever was asked for.
    chosen = {
        name: query.flag(name) if request.version >= (1, 42) else True
        for name in ("stdin", "stdout", "stderr")
    }
    streams = await engine.containers.attach(
        record.id,
        stdin=chosen["stdin"] and query.flag("stream"),
        stdout=chosen["stdout"],
        stderr=chosen["stderr"],
        logs=query.flag("logs"),
        stream=query.flag("stream"),
        detach_keys=query.text("detachKeys"),
    )
    try:
        await socket.prepare(request.http)
        await _carry(socket, streams)
        await socket.close()
    finally:
        await streams.close()
    return socket


async def _carry(socket: web.WebSocketResponse, streams: Streams) -> None:
    """Until the process ends, the client detaches, or it is gone."""
    tasks = [asyncio.create_task(part(socket, streams)) for part in (_output, _input)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a WebSocket broke", exc_info=error)


async def _output(socket: web.WebSocketResponse, streams: Streams) -> None:
    frames = Unframed()
    with contextlib.suppress(ConnectionError):
        async for piece in streams:
            if payload := piece if streams.tty else frames.feed(piece):
                await socket.send_bytes(payload)


async def _input(socket: web.WebSocketResponse, streams: Streams) -> None:
    async for message in socket:
        match message.type:
            case WSMsgType.BINARY:
                await streams.write(message.data)
            case WSMsgType.TEXT:
                await streams.write(message.data.encode())
            case _:
                return
