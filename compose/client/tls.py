"""TLS to an engine. The streams that come out are plain, and each direction ends by itself.

asyncio's own TLS can't stop sending and go on reading; the end of a command's input is just that.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl

from compose.client.address import TcpAddress, TlsFiles
from compose.client.errors import BadAddress, Unreachable

CHUNK = 64 << 10


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """Raises BadAddress that names the file which can't be used."""
    try:
        context = ssl.create_default_context(cafile=str(files.ca) if files.ca else None)
    except (OSError, ValueError) as error:
        raise _unusable(f"the authority {files.ca}", error) from error
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert and files.key:
        try:
            context.load_cert_chain(files.cert, files.key)
        except (OSError, ValueError) as error:
            raise _unusable(f"the client certificate {files.cert}", error) from error
    return context


def _unusable(what: str, error: Exception) -> BadAddress:
    said = getattr(error, "strerror", None) or error
    return BadAddress(
        f"cannot read {what}: {said}",
        hint="name the files by --tlscacert, --tlscert and --tlskey; DOCKER_CERT_PATH holds "
        "ca.pem, cert.pem and key.pem",
    )


async def open_tls(
    address: TcpAddress, files: TlsFiles, *, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Raises OSError (an ssl.SSLError is one) where there is no connection or no trust."""
    context = client_context(files)
    channel = Channel(
        *await asyncio.open_connection(address.host, address.port), context, address.host
    )
    try:
        await channel.handshake()
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=limit)
        inner = await asyncio.open_unix_connection(sock=theirs)
    except BaseException:
        channel.close()
        raise
    task = asyncio.create_task(_carry(channel, *inner, outer=reader, address=address))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return reader, writer


_running: set[asyncio.Task[None]] = set()


async def _carry(
    channel: Channel,
    plain: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    outer: asyncio.StreamReader,
    address: TcpAddress,
) -> None:
    """Until the engine ends the connection, or the command hangs up."""
    sending = asyncio.create_task(_send(channel, plain, writer.get_extra_info("socket")))
    try:
        with contextlib.suppress(ConnectionError):
            while received := await channel.read():
                writer.write(received)
                await writer.drain()
    except ssl.SSLError as error:
        # Servers refuse a client's certificate only after the handshake.
        outer.set_exception(
            Unreachable(
                f"the engine at {address} refused the connection: {error.reason or error}",
                hint="it may want a client certificate: --tlscert and --tlskey",
            )
        )
    finally:
        sending.cancel()
        await asyncio.wait((sending,))
        writer.close()
        channel.close()


async def _send(channel: Channel, plain: asyncio.StreamReader, end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while typed := await plain.read(CHUNK):
            await channel.write(typed)
        if _has_hung_up(end):
            channel.close()
        else:
            await channel.write_eof()


def _has_hung_up(end: socket.socket) -> bool:
    """Whether the other side of the pair is closed, and not only done with sending."""
    poll = select.poll()
    poll.register(end, 0)  # POLLHUP is always told
    return bool(poll.poll(0))


class Channel:
    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: ssl.SSLContext,
        host: str,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._receive()
            else:
                return await self._flush()

    async def read(self) -> bytes:
        """b"" once the engine sends no more."""
        while True:
            try:
                return self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._receive()
            except ssl.SSLZeroReturnError:
                return b""

    async def write(self, plain: bytes) -> None:
        self._tls.write(plain)
        await self._flush()

    async def write_eof(self) -> None:
        with contextlib.suppress(ssl.SSLError):  # it wants to read the engine's own farewell
            self._tls.unwrap()
        await self._flush()

    def close(self) -> None:
        self._writer.close()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())
            await self._writer.drain()

    async def _receive(self) -> None:
        received = await self._reader.read(CHUNK)
        if not received:
            raise ConnectionResetError("the engine ended the connection")
        self._incoming.write(received)
