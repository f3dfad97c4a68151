"""Output of containers as the engine sends it: stdcopy frames, or raw bytes of a terminal."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from enum import IntEnum

from compose.client.errors import BadAnswer, ClientError
from compose.client.http import BLOCK
from compose.client.transport import Duplex
from compose.dataclass import dataclass

HEADER = struct.Struct(">B3xI")
LONGEST = 64 * 1024  # bytes of one line before it is printed in pieces


class Source(IntEnum):
    """Who wrote a piece of output. The numbers are those of the frames' first byte."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ENGINE = 3


@dataclass(frozen=True, slots=True)
class Output:
    source: Source
    text: bytes


async def unframe(blocks: AsyncIterator[bytes]) -> AsyncIterator[Output]:
    """Frames out of blocks of any size. Raises ClientError with what the engine says in-band."""
    pending = bytearray()
    async for block in blocks:
        pending += block
        start = 0
        while len(pending) - start >= HEADER.size:
            kind, length = HEADER.unpack_from(pending, start)
            if kind > Source.ENGINE:
                raise BadAnswer(f"a stream of output holds a frame of unknown kind {kind}")
            end = start + HEADER.size + length
            if len(pending) < end:
                break
            text = bytes(pending[start + HEADER.size : end])
            if kind == Source.ENGINE:
                raise ClientError(f"the engine broke off: {text.decode('utf-8', 'replace')}")
            yield Output(Source(kind), text)
            start = end
        del pending[:start]


async def raw(blocks: AsyncIterator[bytes]) -> AsyncIterator[Output]:
    async for block in blocks:
        yield Output(Source.STDOUT, block)


async def read_blocks(duplex: Duplex) -> AsyncIterator[bytes]:
    while True:
        try:
            block = await duplex.reader.read(BLOCK)
        except ConnectionResetError:
            return
        if not block:
            return
        yield block


def outputs(blocks: AsyncIterator[bytes], *, tty: bool) -> AsyncIterator[Output]:
    """`tty` as the container or exec was created: the media type can't tell for old versions."""
    return raw(blocks) if tty else unframe(blocks)


@dataclass(slots=True)
class LineMaker:
    """Turns the chunks of one stream into lines. Bytes that are no UTF-8 become U+FFFD."""

    rest: bytes = b""

    def feed(self, chunk: bytes) -> Iterator[str]:
        self.rest += chunk
        *lines, self.rest = self.rest.split(b"\n")
        for line in lines:
            yield _text(line)
        if len(self.rest) > LONGEST:
            yield from self.flush()

    def flush(self) -> Iterator[str]:
        """The line without an end that is left."""
        if self.rest:
            line, self.rest = self.rest, b""
            yield _text(line)


def _text(line: bytes) -> str:
    # A carriage return inside a line redraws it (progress bars); the last drawing is what one sees.
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
