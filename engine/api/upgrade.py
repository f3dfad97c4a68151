"""Connections that stop speaking HTTP: attach and exec start become raw streams of bytes.

aiohttp would read what follows such a request as the next request, would drop the connection at
the client's half-close, and has nowhere to put bytes that come in one packet with the head. So
`Connection` looks at each request's first line before aiohttp's parser does; a request that may
be taken over is given to the parser alone, and what follows it is kept until its handler decided.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import select
import socket
import sys
import termios
from collections.abc import Callable
from enum import Enum
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter

_LINE = re.compile(rb"POST (?:/v[0-9.]+)?/(?:containers/[^/? ]+/attach|exec/[^/? ]+/start)[? ]")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,7})[ \t]*\r\n", re.IGNORECASE)
_CODED = re.compile(rb"\r\n(?:transfer-encoding|content-length):", re.IGNORECASE)
LARGEST_HEAD = 64 << 10
LARGEST_BODY = 1 << 20
# Bytes that may wait for a handler or a process before the client is told to wait.
HIGH_WATER = 64 << 10
PIECE = 256 << 10  # read at once from a stream that was taken over
# Seconds between looks at whether a client has read the head; half a second in all.
HEAD_PAUSES = (*(0.0002 * 2**turn for turn in range(8)), *(0.05 for _ in range(9)))
LINGER = 5.0  # seconds in which a client may still send after the last byte it was sent


class Access(Enum):
    """Who may be at the other end of a connection."""

    LOCAL = "a process that may open the socket"
    OPEN = "whoever reaches the port"
    CERTIFIED = "who has shown a certificate"


class Connection(web.RequestHandler):
    """HTTP, until a handler takes it over by `take_over`."""

    access = Access.LOCAL

    def __init__(self, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **settings: Any):
        super().__init__(manager, loop=loop, **settings)
        self._head = bytearray()  # of a request that may be taken over, not yet whole
        self._kept: bytearray | None = None  # what came after such a request
        self._half_closed = False
        self._payload: StreamReader | None = None  # body of the last request
        self._inside_head = False  # the parser has a part of a request's head
        self._raw: RawStream | None = None
        self._hangup: select.epoll | None = None
        self.answered = 0
        self.when_lost: set[Callable[[], None]] = set()
        self.when_silent: set[Callable[[], None]] = set()  # the client stopped sending

    # --- from the transport

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
        elif self._kept is not None:
            self._kept += data
            if len(self._kept) >= HIGH_WATER and self.transport is not None:
                self.transport.pause_reading()
        elif data and (self._head or self._between_requests()):
            self._head += data
            self._sort_head()
        else:
            self._parse(data)

    def _between_requests(self) -> bool:
        return not self._inside_head and (self._payload is None or self._payload.is_eof())

    def _parse(self, data: bytes) -> None:
        before, was_between = self._request_count, self._between_requests()
        super().data_received(data)
        if self._request_count > before:
            if self._messages:
                self._payload = self._messages[-1][1]
            self._inside_head = False
        elif data and was_between:
            self._inside_head = True  # and not the end of a body that came by itself

    def _sort_head(self) -> None:
        """Give the bytes of a possible takeover to the parser when they are a whole request; all
        others at once."""
        head = self._head
        line_end = head.find(b"\n")
        if line_end < 0:
            undecided = head.startswith(b"POST /"[: len(head)]) and len(head) <= LARGEST_HEAD
        else:
            undecided = _LINE.match(head) is not None
        if not undecided:
            return self._pass_on(len(head))
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if b"\n\n" in head or b"\n\r\n" in head or len(head) > LARGEST_HEAD:
                self._pass_on(len(head))  # malformed: the parser says so
            return None
        fields = bytes(head[: end + 2])
        lengths = _LENGTH.findall(fields)
        if len(_CODED.findall(fields)) != len(lengths) or len(lengths) > 1:
            return self._pass_on(len(head))  # chunked or contradictory: never taken over
        whole = end + 4 + (int(lengths[0]) if lengths else 0)
        if whole - end > LARGEST_BODY:
            return self._pass_on(len(head))
        if len(head) >= whole:
            self._kept = bytearray(head[whole:])
            self._pass_on(whole)
        return None

    def _pass_on(self, size: int) -> None:
        request = bytes(self._head[:size])
        self._head = bytearray()
        self._parse(request)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """True keeps the connection open for the answer to a client that only stopped sending."""
        self._half_closed = True
        if self._raw is not None:
            self._raw.feed_eof()
            if not self._raw.is_ended:
                self._watch_hangup()
            return True
        if self._kept is not None:
            self._watch_hangup()
            return True
        # On TCP a client that is gone looks the same, and streams have to notice that.
        busy = self._request_count > self.answered and self._between_requests()
        if busy and not self._head and self._is_unix():
            self._watch_hangup()
            self.close()
            for callback in tuple(self.when_silent):
                callback()
            return True
        return None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._unwatch_hangup()
        if self._raw is not None:
            self._raw.lose()
        for callback in tuple(self.when_lost):
            callback()
        super().connection_lost(exc)

    def _is_unix(self) -> bool:
        if self.transport is None:
            return False
        endpoint: socket.socket | None = self.transport.get_extra_info("socket")
        return endpoint is not None and endpoint.family == socket.AF_UNIX

    def _watch_hangup(self) -> None:
        """A closed client can't be told from a half-closed one by reading; EPOLLHUP tells."""
        if self._hangup is not None or self.transport is None or not self._is_unix():
            return
        endpoint: socket.socket = self.transport.get_extra_info("socket")
        self._hangup = select.epoll()
        self._hangup.register(endpoint.fileno(), 0)  # EPOLLHUP and EPOLLERR are always reported
        self._loop.add_reader(self._hangup.fileno(), self._hung_up)

    def _unwatch_hangup(self) -> None:
        if self._hangup is not None:
            self._loop.remove_reader(self._hangup.fileno())
            self._hangup.close()
            self._hangup = None

    def _hung_up(self) -> None:
        self._unwatch_hangup()
        if self.transport is not None:
            self.transport.abort()

    # --- from the handlers

    @property
    def is_silent(self) -> bool:
        return self._half_closed

    @property
    def can_be_taken(self) -> bool:
        return self._kept is not None and self.transport is not None

    def take_over(self, head: bytes) -> RawStream:
        """Send `head`; from now on the connection is the returned stream's."""
        assert self._kept is not None
        transport = self.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        transport.write(head)
        self._raw = RawStream(self, transport)
        early, self._kept = bytes(self._kept), None
        if early:
            self._raw.feed(early)
        if self._half_closed:
            self._raw.feed_eof()
        else:
            transport.resume_reading()
        return self._raw

    def settle(self) -> None:
        """The request was answered as HTTP: what came after it is the next request."""
        self.answered += 1
        kept, self._kept = self._kept, None
        if kept is None or self._raw is not None:
            return
        if self.transport is not None:
            if self._half_closed:
                self.close()
            else:
                self.transport.resume_reading()
        if kept:
            self.data_received(bytes(kept))

    def hang_up(self) -> None:
        """The daemon stops: streams end as if their clients had gone, idle connections at once."""
        if self._request_count <= self.answered:
            self.force_close()
        for callback in tuple(self.when_lost):
            callback()
        if self._raw is not None and self.transport is not None:
            self.transport.abort()

    async def drain(self) -> None:
        await self._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP: an answer in our form, and no traceback in the log."""
        from engine.api.answer import refusal

        if status >= 500:
            self.logger.error("request failed", exc_info=exc)
        else:
            self.logger.info("malformed request: %s", str(message or exc)[:200])
        response = refusal(status, "internal error" if status >= 500 else "malformed request")
        response.force_close()
        return response


class RawStream:
    """Bytes both ways on a connection that was taken over."""

    def __init__(self, connection: Connection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._reader = asyncio.StreamReader(limit=PIECE)
        self._reader.set_transport(transport)
        self.lost = asyncio.get_running_loop().create_future()
        self.is_ended = False

    def feed(self, data: bytes) -> None:
        self._reader.feed_data(data)

    def feed_eof(self) -> None:
        self._reader.feed_eof()

    def lose(self) -> None:
        self._reader.feed_eof()
        if not self.lost.done():
            self.lost.set_result(None)

    async def head_was_read(self) -> None:
        """Returns when the client took the answer's head from its socket, or is slow to.

        docker-py reads the head through a buffer that it then forgets: output that comes along
        with the head would be lost. No event tells, so this looks now and then; on TCP the kernel
        can't say.
        """
        endpoint: socket.socket | None = self._transport.get_extra_info("socket")
        if endpoint is None or endpoint.family != socket.AF_UNIX:
            return
        for pause in HEAD_PAUSES:
            if self.lost.done() or not _unread(endpoint.fileno()):
                return
            await asyncio.sleep(pause)

    async def read(self) -> bytes:
        """What the client sent; b"" when it stopped sending, or is gone (see `lost`)."""
        return await self._reader.read(PIECE)

    async def write(self, data: bytes) -> None:
        """Returns when the client takes more. Raises ConnectionError when it is gone."""
        if self.lost.done() or self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        await self._connection.drain()

    def end(self) -> None:
        """Nothing more will be sent: the client sees the end of the output."""
        self.is_ended = True
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    async def finish(self) -> None:
        """End the output and wait for the client to hang up, so that closing the socket while
        it still sends doesn't turn its end of file into a reset."""
        if self.lost.done() or self._transport.is_closing():
            return
        self.end()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while await self._reader.read(HIGH_WATER):
                    pass


def _unread(descriptor: int) -> int:
    """Bytes of memory that wait in the peer's queue."""
    answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4)
    return int.from_bytes(answer, sys.byteorder)


class Taken(web.StreamResponse):
    """Stands for the answer of a connection that was taken over: nothing more is sent."""

    def __init__(self) -> None:
        super().__init__(status=101)
        self.force_close()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None
