"""Requests to one engine over a unix socket, TCP or TLS: JSON in and out, streams, hijacks.

Each request has a connection of its own. On a unix socket that costs 0.2 ms, an abandoned stream
can't spoil a later answer, and no kept-alive connection can be stale.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

from compose.client.address import Address, SshAddress, TcpAddress, UnixAddress
from compose.client.errors import (
    ApiError,
    BadAnswer,
    ClientError,
    Incompatible,
    Unreachable,
    api_error,
)
from compose.client.http import HEAD_LIMIT, Exchange, Head
from compose.dataclass import dataclass
from compose.errors import Rehearsed

Query = Mapping[str, "str | int | bool | Sequence[str] | None"]

NEWEST = (1, 51)  # what this client was written for
OLDEST = (1, 41)  # below it, `platform` and one-shot calls are missing that planning needs


@dataclass(frozen=True, slots=True)
class Duplex:
    """A hijacked connection: raw bytes both ways. `finish_writing` is the end of stdin."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    media_type: str

    async def write(self, block: bytes) -> None:
        self.writer.write(block)
        await self.writer.drain()

    def finish_writing(self) -> None:
        if self.writer.can_write_eof():
            self.writer.write_eof()

    async def close(self) -> None:
        await _close(self.writer)


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer whose body is still to be read."""

    head: Head
    chunks: AsyncIterator[bytes]

    async def read(self) -> bytes:
        return b"".join([block async for block in self.chunks])

    async def lines(self) -> AsyncIterator[bytes]:
        """Lines of a stream of JSON objects, without their ends."""
        rest = b""
        async for block in self.chunks:
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest

    async def objects(self) -> AsyncIterator[object]:
        async for line in self.lines():
            yield _parse_json(line, "a stream")


class Transport:
    """Stateless but for the negotiated version; safe to use from many tasks at once."""

    def __init__(self, address: Address, environment: Mapping[str, str]) -> None:
        self.address = address
        self._environment = environment  # for ssh
        self.version: tuple[int, int] | None = None
        self.server = ""  # what the engine calls itself
        self.rehearses = False  # nothing but questions gets through
        self._limit = asyncio.Semaphore(64)  # unix sockets refuse when the backlog is full

    async def negotiate(self) -> Head:
        """Ask for the API version and use the lower of the engine's and ours from then on."""
        try:
            async with self._exchange("GET", "/_ping", {}, b"") as (head, exchange):
                text = b"".join([block async for block in exchange.body()])
        except (BadAnswer, ConnectionResetError) as error:
            raise Incompatible(f"what answers at {self.address} is no engine: {error}") from error
        stated = head.headers.get("api-version", "")
        major, _, minor = stated.partition(".")
        if head.status != 200 or not (major.isdigit() and minor.isdigit()):
            said = text[:200].decode(errors="replace").strip() or "nothing"
            raise Incompatible(
                f"what answers at {self.address} is no container engine"
                f" (GET /_ping gave status {head.status}, API version {stated!r}: {said})",
                hint="check DOCKER_HOST and --host",
            )
        version = (int(major), int(minor))
        if version < OLDEST:
            raise Incompatible(
                f"the engine at {self.address} speaks API {stated}, which is too old",
                hint=f"pycompose needs API {OLDEST[0]}.{OLDEST[1]} (Docker Engine 20.10) or newer",
            )
        self.version = min(version, NEWEST)
        self.server = head.headers.get("server", "")
        return head

    async def json(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> object:
        """The decoded answer, or None when it has no body."""
        async with (
            self._limit,
            self.stream(method, path, query=query, body=body, headers=headers) as answer,
        ):
            text = await answer.read()
        return _parse_json(text, f"{method} {path}") if text.strip() else None

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """An answer as it comes. `body`: bytes or an async iterator go as they are, else JSON.

        Leaving the block closes the connection, which is how the engine learns that nobody
        listens any more.
        """
        self._let_through(method, path)
        target = self._target(path, query)
        payload, more = _encode_body(body)
        async with self._exchange(method, target, {**payload, **(headers or {})}, more) as (
            head,
            exchange,
        ):
            chunks = self._received(exchange)
            if head.status >= 300 and head.status != 304:
                raise await _refusal(head, chunks, f"{method} {path}")
            yield Answer(head, chunks)

    async def _received(self, exchange: Exchange) -> AsyncIterator[bytes]:
        """The body. That the engine has gone is told by who reads: where that is one of several
        tasks, what it raises comes to the block around the stream in a group with others."""
        try:
            async for block in exchange.body():
                yield block
        except ConnectionResetError as error:
            raise self._lost(error) from error

    async def upgrade(
        self, path: str, *, query: Query | None = None, body: object = None
    ) -> Duplex:
        """POST that turns the connection into a raw stream. The caller closes it."""
        self._let_through("POST", path)
        payload, more = _encode_body(body)
        headers = {**payload, "Connection": "Upgrade", "Upgrade": "tcp"}
        exchange = Exchange(*await self._open())
        try:
            await exchange.send("POST", self._target(path, query), self._headers(headers), more)
            head = await exchange.head()
            if head.status not in (101, 200):
                raise await _refusal(head, exchange.body(), f"POST {path}")
        except BaseException:
            await _close(exchange.writer)
            raise
        return Duplex(exchange.reader, exchange.writer, head.headers.get("content-type", ""))

    async def dial(self) -> Duplex:
        """A connection on which nothing has been said. The caller closes it."""
        return Duplex(*await self._open(), "")

    def _let_through(self, method: str, path: str) -> None:
        """Raises Rehearsed for what would change something, or run something, in a rehearsal."""
        waits = path.startswith("/containers/") and path.endswith("/wait")
        if self.rehearses and method not in ("GET", "HEAD") and not waits:
            raise Rehearsed(f"{method} {path}")

    def _target(self, path: str, query: Query | None) -> str:
        if self.version is None:
            raise RuntimeError("negotiate() comes first")
        target = f"/v{self.version[0]}.{self.version[1]}{quote(path, safe='/:@+~')}"
        pairs = _query_pairs(query or {})
        return f"{target}?{urlencode(pairs)}" if pairs else target

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        host = self.address.host if isinstance(self.address, TcpAddress) else "docker"
        if ":" in host:
            host = f"[{host}]"
        base = {"Host": host, "User-Agent": "pycompose", "Connection": "close"}
        return {**base, **headers}

    @asynccontextmanager
    async def _exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | AsyncIterator[bytes],
    ) -> AsyncIterator[tuple[Head, Exchange]]:
        exchange = Exchange(*await self._open())
        try:
            # The engine may refuse an upload before it has read all of it: its answer says why,
            # the broken pipe does not.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await exchange.send(method, target, self._headers(headers), body)
            yield await exchange.head(), exchange
        except ConnectionResetError as error:
            raise self._lost(error) from error
        finally:
            await _close(exchange.writer)

    def _lost(self, error: ConnectionResetError) -> Unreachable:
        return Unreachable(
            f"lost the connection to the engine at {self.address}: {error}",
            hint="see the engine's log; containers go on running without it",
        )

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self.address
        try:
            if isinstance(address, UnixAddress):
                return await asyncio.open_unix_connection(address.path, limit=HEAD_LIMIT)
            if isinstance(address, SshAddress):
                from compose.client.ssh import open_ssh

                return await open_ssh(address, self._environment, limit=HEAD_LIMIT)
            if address.tls is not None:
                from compose.client.tls import open_tls

                return await open_tls(address, address.tls, limit=HEAD_LIMIT)
            return await asyncio.open_connection(address.host, address.port, limit=HEAD_LIMIT)
        except OSError as error:
            raise _unreachable(address, error) from error


def _query_pairs(query: Query) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        if value is None or value is False:
            continue
        if isinstance(value, bool):
            pairs.append((name, "1"))
        elif isinstance(value, (str, int)):
            pairs.append((name, str(value)))
        else:
            pairs.extend((name, item) for item in value)
    return pairs


def _encode_body(body: object) -> tuple[dict[str, str], bytes | AsyncIterator[bytes]]:
    if body is None:
        return {"Content-Length": "0"}, b""
    if isinstance(body, bytes):
        return {"Content-Type": "application/x-tar", "Content-Length": str(len(body))}, body
    if isinstance(body, AsyncIterator):
        return {"Content-Type": "application/x-tar", "Transfer-Encoding": "chunked"}, body
    text = json.dumps(body, separators=(",", ":")).encode()
    return {"Content-Type": "application/json", "Content-Length": str(len(text))}, text


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):  # closed by the other side, which is as good
        await writer.wait_closed()


async def _refusal(head: Head, chunks: AsyncIterator[bytes], request: str) -> ApiError:
    text = b"".join([block async for block in chunks])
    try:
        decoded = json.loads(text)
    except ValueError:
        decoded = None
    message = decoded.get("message") if isinstance(decoded, dict) else None
    if not isinstance(message, str) or not message:
        message = text.decode("utf-8", "replace").strip() or f"status {head.status}"
    return api_error(head.status, message, request)


def _parse_json(text: bytes, source: str) -> object:
    try:
        decoded: object = json.loads(text)
    except ValueError as error:
        raise BadAnswer(
            f"the answer to {source} is no JSON: {text[:80]!r}",
            hint="is it an engine that answers there? See DOCKER_HOST, PYCOMPOSE_HOST and --host",
        ) from error
    return decoded


def _unreachable(address: Address, error: OSError) -> ClientError:
    if isinstance(error, PermissionError):
        return Unreachable(
            f"cannot talk to the engine at {address}: permission denied",
            hint="run as root, or as a member of the group that owns the socket",
        )
    if isinstance(error, socket.gaierror):
        return Unreachable(
            f"cannot reach the engine at {address}: {error.strerror}",
            hint="check the name in DOCKER_HOST, PYCOMPOSE_HOST or --host",
        )
    if isinstance(address, TcpAddress) and type(error).__name__.startswith("SSL"):
        return Unreachable(
            f"cannot talk to the engine at {address}: {error}",
            hint="check DOCKER_CERT_PATH and DOCKER_TLS_VERIFY, or --tlscacert",
        )
    reason = {
        errno.ENOENT: "no such socket",
        errno.ECONNREFUSED: "connection refused: nothing listens there",
    }.get(error.errno or 0, error.strerror or str(error))
    return Unreachable(
        f"cannot reach the engine at {address}: {reason}",
        hint="is it running? Unset DOCKER_HOST and PYCOMPOSE_HOST to use the built-in engine",
    )
