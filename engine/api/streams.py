"""Answers whose end isn't known when they begin: chunked, each piece sent when it is there."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from types import MappingProxyType, TracebackType

from aiohttp import web

from engine.api.answer import COMMON_HEADERS, encode
from engine.api.request import Request
from engine.api.upgrade import RawStream, Taken
from engine.containers.operations import Streams
from engine.errors import EngineError, InvalidRequest

log = logging.getLogger(__name__)

JSON = "application/json"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"
TAR = "application/x-tar"
OCTETS = "application/octet-stream"
PROGRESS = b"\r\n"  # what ends a message of a pull, push, load, import or build
_FAR_AHEAD = 1000  # messages
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


def stream_type(*, tty: bool, version: tuple[int, int]) -> str:
    """Before API 1.42 both kinds had the same name."""
    return RAW if tty or version < (1, 42) else MULTIPLEXED


class Stream:
    """`async with` sends the head at once. An error inside cuts the connection, so that a client
    never takes half an answer for a whole one."""

    def __init__(
        self,
        request: Request,
        content_type: str,
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        end: bytes = b"\n",
    ) -> None:
        """`end`: of each message."""
        self._request = request
        self._end = end
        headers = {**COMMON_HEADERS, "Content-Type": content_type, **headers}
        self.response = web.StreamResponse(headers=headers)

    async def __aenter__(self) -> Stream:
        await self.response.prepare(self._request.http)
        return self

    async def send(self, data: bytes) -> None:
        """Returns when the client takes more; raises ConnectionError when it is gone."""
        if data:
            await self.response.write(data)

    async def message(self, document: object) -> None:
        await self.messages((document,))

    async def messages(self, documents: Iterable[object]) -> None:
        """In one piece."""
        await self.send(b"".join(encode(document, self._end) for document in documents))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.response.write_eof()
        else:
            if isinstance(error, EngineError):
                log.warning("the answer to %s broke off: %s", self._request.http.path, error)
            self.response.force_close()
            transport = self._request.http.transport
            if transport is not None:
                transport.abort()


class Gathered:
    """Messages that come faster than each could be sent by itself: those of one turn of the event
    loop travel together. Who is far ahead of `send` waits."""

    def __init__(self, send: Callable[[Sequence[object]], Awaitable[None]]) -> None:
        self._send = send
        self.waiting: list[object] = []
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._has_ended = False

    async def __aenter__(self) -> Gathered:
        self._writer = asyncio.create_task(self._write())
        return self

    async def put(self, *documents: object) -> None:
        """Raises what `send` has raised."""
        if self._writer.done():
            self._writer.result()
        self.waiting += documents
        self._some.set()
        if len(self.waiting) >= _FAR_AHEAD:
            self._room.clear()
            await self._room.wait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._has_ended = True
            self._some.set()
            await self._writer
        else:
            self._writer.cancel()
            await asyncio.wait((self._writer,))

    async def _write(self) -> None:
        try:
            while self.waiting or not self._has_ended:
                await self._some.wait()
                self._some.clear()
                documents, self.waiting = self.waiting, []
                if documents:
                    await self._send(documents)
                self._room.set()
        finally:
            self._room.set()


async def send_all(
    request: Request,
    content_type: str,
    pieces: AsyncIterable[bytes],
    *,
    endless: bool = False,
    headers: Mapping[str, str] = NO_HEADERS,
) -> web.StreamResponse:
    """The usual case: what `pieces` yields, for as long as the client listens. `endless`: unless it
    hangs up, it may never end."""
    stream = Stream(request, content_type, headers)
    try:
        with request.until_gone(endless=endless):
            async with stream:
                async for piece in pieces:
                    await stream.send(piece)
    finally:
        # What it holds open goes now, not when the collector comes by.
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
    return stream.response


async def carry(request: Request, streams: Streams, *, stdin: bool) -> web.StreamResponse:
    """Take the connection over and carry bytes both ways until the process ends, the client
    detaches, or it is gone. A client that stops sending still gets all output."""
    connection = request.connection
    if not connection.can_be_taken:
        await streams.close()
        raise InvalidRequest("cannot open a raw stream: the request's body has no plain length")
    raw = connection.take_over(_upgrade_head(request, tty=streams.tty))
    carried = asyncio.create_task(_output(streams, raw))
    sent = asyncio.create_task(_input(streams, raw, stdin=stdin))
    try:
        await asyncio.wait((carried, raw.lost), return_when=asyncio.FIRST_COMPLETED)
    finally:
        sent.cancel()
        carried.cancel()
        await asyncio.wait((sent, carried))
        await streams.close()
    for task in (carried, sent):
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a stream of %s broke", request.http.path, exc_info=error)
    await raw.finish()
    return Taken()


def _upgrade_head(request: Request, *, tty: bool) -> bytes:
    wanted = request.header("Upgrade").strip().lower() == "tcp"
    lines = [
        "HTTP/1.1 101 UPGRADED" if wanted else "HTTP/1.1 200 OK",
        f"Content-Type: {stream_type(tty=tty, version=request.version) if wanted else RAW}",
        *(("Connection: Upgrade", "Upgrade: tcp") if wanted else ()),
        *(f"{key}: {value}" for key, value in COMMON_HEADERS.items()),
    ]
    return "\r\n".join((*lines, "", "")).encode()


async def _output(streams: Streams, raw: RawStream) -> None:
    with contextlib.suppress(ConnectionError):
        is_first = True
        async for piece in streams:
            if is_first:
                await raw.head_was_read()
                is_first = False
            await raw.write(piece)
        raw.end()


async def _input(streams: Streams, raw: RawStream, *, stdin: bool) -> None:
    """Reads even what nobody wants: only so the client's end is seen."""
    with contextlib.suppress(ConnectionError):  # the process closed its standard input
        while received := await raw.read():
            if stdin:
                await streams.write(received)
        if stdin and not raw.lost.done():
            await streams.write_eof()
