"""One HTTP/1.1 request and its answer on a connection of their own; h11 knows the protocol.

Not aiohttp: importing it costs each `pycompose` call 0.25 s, h11 15 ms, and a hijacked connection
(attach, exec) has to leave HTTP in the middle of a socket anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import h11

from compose.client.errors import BadAnswer
from compose.dataclass import dataclass

HEAD_LIMIT = 256 * 1024
BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The status line and the headers; header names are in lower case."""

    status: int
    headers: Mapping[str, str]


class Exchange:
    """Send, then read the head, then the body or the raw stream. Raises BadAnswer for what is no
    HTTP, ConnectionResetError where the engine hangs up early."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)

    async def send(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes],
    ) -> None:
        try:
            # A line break in a name that a user typed would start another request: h11 refuses.
            request = h11.Request(method=method, target=target, headers=list(headers.items()))
        except h11.LocalProtocolError as error:
            raise BadAnswer(f"cannot send {method} {target!r}: {error}") from error
        if isinstance(body, bytes):  # in one packet, so that the engine reads once
            await self._write(request, h11.Data(data=body), h11.EndOfMessage())
            return
        await self._write(request)
        async for block in body:
            await self._write(h11.Data(data=block))
        await self._write(h11.EndOfMessage())

    async def _write(self, *events: h11.Event) -> None:
        if text := b"".join(self._state.send(event) or b"" for event in events):
            self.writer.write(text)
            await self.writer.drain()

    async def head(self) -> Head:
        """Reads not one byte more than the head, so that what follows can be a raw stream."""
        while True:
            try:
                text = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise BadAnswer(f"what answers isn't HTTP: {error.partial[:80]!r}") from error
                raise ConnectionResetError("the engine hung up before it answered") from error
            except asyncio.LimitOverrunError as error:
                raise BadAnswer(f"an answer's head is larger than {HEAD_LIMIT} bytes") from error
            self._state.receive_data(text)
            event = self._next()
            if isinstance(event, (h11.Response, h11.InformationalResponse)):
                if event.status_code == 100:
                    continue
                headers = {name.decode(): value.decode("latin-1") for name, value in event.headers}
                return Head(event.status_code, headers)

    async def body(self) -> AsyncIterator[bytes]:
        """The body in the pieces in which it comes."""
        while True:
            event = self._next()
            if event is h11.NEED_DATA:
                self._state.receive_data(await self.reader.read(BLOCK))
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            else:
                return

    def _next(self) -> object:
        try:
            return self._state.next_event()
        except h11.RemoteProtocolError as error:
            if "closed connection" in str(error):
                raise ConnectionResetError("the engine hung up in its answer") from error
            raise BadAnswer(f"what answers isn't HTTP: {error}") from error
