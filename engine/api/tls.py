"""TLS of a TCP address: a client's bytes are deciphered here and go on through a socket pair.

asyncio's own TLS ends a connection when the client stops sending, and can't stop sending itself
while it reads: hijacked streams need both. Here each direction ends by itself, as in plain TCP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from engine.errors import Failure
from engine.settings import Tls

log = logging.getLogger(__name__)

# To whoever forgot TLS: as Go's servers, which clients know.
PLAIN_REFUSED = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
CHUNK = 64 << 10
HANDSHAKE = 10.0  # seconds that a client has for it
LINGER = 5.0  # seconds in which a client may still send after our last byte


def server_context(tls: Tls) -> ssl.SSLContext:
    """Raises Failure that names the file which can't be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        raise Failure(
            f"cannot use the certificate {tls.certificate} with the key {tls.key}: {said_by(error)}"
        ) from error
    if tls.verify:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(tls.authorities)
        except (OSError, ValueError) as error:
            raise Failure(f"cannot check clients by {tls.authorities}: {said_by(error)}") from error
    return context


def _no_password() -> str:
    """Instead of asking on a terminal that a daemon doesn't have."""
    raise ValueError("the key is encrypted")


def said_by(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"{error.reason or error}".replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    context: ssl.SSLContext,
    make: Callable[[], asyncio.Protocol],
) -> None:
    """One connection, from the handshake to its end; `make` makes what speaks HTTP in it."""
    client = Channel(reader, writer, context)
    try:
        async with asyncio.timeout(HANDSHAKE):
            await client.handshake()
        await _carry(client, make)
    except ssl.SSLError as error:
        log.info("TLS with %s failed: %s", _peer(writer), said_by(error))
        with contextlib.suppress(OSError):
            if error.reason == "HTTP_REQUEST":
                writer.write(PLAIN_REFUSED)
            else:
                await client.flush()  # the alert that says so
            await _drain(reader, writer)
    except TimeoutError:
        log.info("TLS with %s failed: no handshake within %g s", _peer(writer), HANDSHAKE)
    except OSError:
        pass  # the client is gone
    finally:
        writer.close()


async def _drain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closing with something unread would reset the connection, and the alert be lost."""
    writer.write_eof()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(CHUNK):
                pass


def _peer(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    return f"{peer[0]}:{peer[1]}" if peer else "a client that is gone"


async def _carry(client: Channel, make: Callable[[], asyncio.Protocol]) -> None:
    ours, theirs = socket.socketpair()
    await asyncio.get_running_loop().connect_accepted_socket(make, theirs)
    received, sent = await asyncio.open_unix_connection(sock=ours)
    up = asyncio.create_task(_up(client, sent))
    try:
        while plain := await received.read(CHUNK):
            await client.write(plain)
        await client.write_eof()
        await asyncio.wait((up,), timeout=LINGER)
    finally:
        up.cancel()
        await asyncio.wait((up,))
        sent.close()


async def _up(client: Channel, sent: asyncio.StreamWriter) -> None:
    """What the client sends, to the end; a client that is gone is an end at once."""
    try:
        while plain := await client.read():
            sent.write(plain)
            await sent.drain()
        sent.write_eof()
    except OSError:
        sent.transport.abort()


class Channel:
    """TLS over a pair of streams; each direction ends by itself."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self.flush()
                await self._receive()
            else:
                return await self.flush()

    async def read(self) -> bytes:
        """b"" once the client has said that it sends no more. ConnectionError: it is gone."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self.flush()
                await self._receive()
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, plain: bytes) -> None:
        self._tls.write(plain)
        await self.flush()

    async def write_eof(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants to read the client's own farewell
            self._tls.unwrap()
        await self.flush()

    async def flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())
            await self._writer.drain()

    async def _receive(self) -> None:
        received = await self._reader.read(CHUNK)
        if not received:
            raise ConnectionResetError("the client ended the connection without saying so")
        self._incoming.write(received)
