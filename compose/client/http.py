"""HTTP/1.1 as bytes: request heads, response heads, bodies by length, by chunks or to the end.

Our own, since the one HTTP library at hand costs 0.25 s of import in each `pycompose` call, and
a hijacked connection (attach, exec) has to leave HTTP in the middle of a socket anyway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from compose.client.errors import BadAnswer

HEAD_LIMIT = 256 * 1024
BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """The status line and the headers; header names are in lower case."""

    status: int
    headers: Mapping[str, str]


def write_request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
    for line in lines:
        # A line break in a name that a user typed would start another request.
        if "\r" in line or "\n" in line:
            raise BadAnswer(f"cannot send {line!r}: a request holds no line breaks")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def parse_head(text: bytes) -> Head:
    status_line, *lines = text.decode("iso-8859-1").rstrip("\r\n").split("\r\n")
    words = status_line.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
        raise BadAnswer(f"what answers isn't HTTP: {status_line[:80]!r}")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip().lower()] = value.strip()
    return Head(status=int(words[1]), headers=headers)


async def read_head(reader: asyncio.StreamReader) -> Head:
    try:
        head = parse_head(await reader.readuntil(b"\r\n\r\n"))
        while head.status == 100:
            head = parse_head(await reader.readuntil(b"\r\n\r\n"))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the engine hung up before it answered") from error
    except asyncio.LimitOverrunError as error:
        raise BadAnswer(f"the head of an answer is larger than {HEAD_LIMIT} bytes") from error
    return head


async def read_body(
    reader: asyncio.StreamReader, head: Head, *, method: str
) -> AsyncIterator[bytes]:
    """The body in the pieces in which it comes. Raises ConnectionResetError if it is cut short."""
    if method == "HEAD" or head.status in (204, 304) or 100 <= head.status < 200:
        return
    try:
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            async for block in _read_chunks(reader):
                yield block
        elif "content-length" in head.headers:
            left = int(head.headers["content-length"])
            while left > 0:
                block = await reader.read(min(left, BLOCK))
                if not block:
                    raise asyncio.IncompleteReadError(b"", left)
                left -= len(block)
                yield block
        else:
            while block := await reader.read(BLOCK):
                yield block
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the engine hung up in the middle of an answer") from error


async def _read_chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        size_line = await reader.readuntil(b"\r\n")
        try:
            left = int(size_line.split(b";")[0], 16)
        except ValueError as error:
            raise BadAnswer(f"broken chunk size {size_line[:40]!r}") from error
        if left == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
                continue
            return
        while left > 0:
            block = await reader.read(min(left, BLOCK))
            if not block:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(block)
            yield block
        await reader.readexactly(2)


def chunk(block: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(block), block)


LAST_CHUNK = b"0\r\n\r\n"
