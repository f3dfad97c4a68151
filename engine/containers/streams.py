"""A client at the stdio of a container or an exec: attach and exec start."""

import asyncio
import contextlib
import re
import struct
from collections.abc import AsyncIterator, Callable

from engine.errors import InvalidRequest

DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"
_CHUNK = 256 * 1024
_CONTROL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse_detach_keys(text: str, *, called: str = "detach") -> bytes:
    """The bytes of "ctrl-p,ctrl-q" or "a,ctrl-\\"."""
    keys = bytearray()
    for name in (text or DEFAULT_DETACH_KEYS).split(","):
        if len(name) == 1 and name.isascii():
            keys.append(ord(name))
        elif match := re.fullmatch(r"ctrl-([a-z@\[\\\]^_])", name, re.IGNORECASE):
            letter = match[1].lower()
            keys.append(_CONTROL.get(letter, ord(letter) - 96))
        else:
            raise InvalidRequest(f"Invalid {called} keys ({text}) provided")
    return bytes(keys)


class DetachKeys:
    """Finds the keys in what is typed; holds back what may become them.

    As Docker's client, which looks for them too: a key that breaks the sequence begins no new one.
    Where only one of the two saw the keys, the other would wait for ever.
    """

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """(what goes on to the process, whether the keys were seen)"""
        pending = self._keys[: self._matched] + typed
        for index in range(self._matched, len(pending)):
            if pending[index] != self._keys[self._matched]:
                self._matched = 0
                continue
            self._matched += 1
            if self._matched == len(self._keys):
                self._matched = 0
                return pending[: index + 1 - len(self._keys)], True
        return pending[: len(pending) - self._matched], False


def stdout_frame(text: bytes, *, tty: bool) -> bytes:
    return text if tty else struct.pack(">BxxxL", 1, len(text)) + text


class ProcessStreams:
    """Made when a client comes, connected when the process is there."""

    def __init__(
        self,
        *,
        tty: bool,
        framed: bool = False,
        detach_keys: bytes = b"",
        when_detached: Callable[[], None] = lambda: None,
        replay: AsyncIterator[bytes] | None = None,
    ) -> None:
        self.tty = tty and not framed  # whether what comes out has no frames
        self._framed = framed  # what the process writes has none, but the client expects them
        self._detach_keys = DetachKeys(detach_keys) if tty and detach_keys else None
        self._when_detached = when_detached
        self._replay = replay
        # Both are events, not futures: several may wait, and any of them may be cancelled.
        self._decided = asyncio.Event()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._settled: asyncio.Event | None = None
        self._closed = asyncio.Event()
        self.stdin = self.stdout = self.stderr = True
        self.ends_with_input = False  # its output does, whatever the process goes on to say
        self._has_said_all = False
        self.when_closed: Callable[[], None] = lambda: None

    def connect(
        self,
        reader: asyncio.StreamReader | None,
        writer: asyncio.StreamWriter | None,
        settled: asyncio.Event,
    ) -> None:
        """Without a reader there is no output, only an end. `settled` is set once the exit of
        the process has been recorded: the output ends after it, so that a client that asks then
        gets the exit code."""
        self._reader, self._writer, self._settled = reader, writer, settled
        self._decided.set()
        if self._closed.is_set() and writer is not None:
            writer.close()

    def never_connects(self) -> None:
        """There will be no process: the output ends."""
        self._decided.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._replay is not None:
            async for piece in self._replay:
                yield piece
        if not await self._wait_unless_closed(self._decided):
            return
        if self._settled is None:
            return
        while piece := await self._read():
            yield stdout_frame(piece, tty=False) if self._framed else piece
        if not (self.ends_with_input and self._has_said_all):
            await self._wait_unless_closed(self._settled)
        await self.close()

    async def _read(self) -> bytes:
        if self._reader is None or self._closed.is_set():
            return b""
        # The shim ends the connection with the process; so does `close`.
        with contextlib.suppress(ConnectionError):
            return await self._reader.read(_CHUNK)
        return b""

    async def _wait_unless_closed(self, event: asyncio.Event) -> bool:
        """False if the client has left meanwhile."""
        if event.is_set():
            return not self._closed.is_set()
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._closed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not self._closed.is_set()

    async def write(self, data: bytes) -> None:
        """To the process's stdin, when there is one; waits while it doesn't read."""
        detached = False
        if self._detach_keys is not None:
            data, detached = self._detach_keys.feed(data)
        if data and await self._wait_unless_closed(self._decided) and self._writer is not None:
            # A process that closed its stdin, or ended, doesn't want the rest.
            with contextlib.suppress(ConnectionError):
                self._writer.write(data)
                await self._writer.drain()
        if detached:
            self._when_detached()
            await self.close()

    async def write_eof(self) -> None:
        self._has_said_all = True
        if await self._wait_unless_closed(self._decided) and self._writer is not None:
            with contextlib.suppress(OSError):
                if self._writer.can_write_eof():
                    self._writer.write_eof()

    async def close(self) -> None:
        self._closed.set()
        self.when_closed()
        if self._writer is not None:
            self._writer.close()


class MessageStreams:
    """Stands in for the output of a process that could not start: only a message."""

    def __init__(self, message: str, *, tty: bool) -> None:
        self.tty = tty
        self._message = message

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield stdout_frame(f"{self._message}\r\n".encode(), tty=self.tty)

    async def write(self, data: bytes) -> None:
        """There is no process to take it."""

    async def write_eof(self) -> None:
        """There is no process to tell."""

    async def close(self) -> None:
        """Nothing is open."""
