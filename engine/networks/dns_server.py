"""The name service: one pair of sockets in each container's namespace, all served here.

Every query comes from exactly one container, so it gets the names of that container's networks
only. The rest is asked from the host's resolvers, unless the container has no way out.
"""

import asyncio
import contextlib
import logging
import os
import random
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from engine.networks.dns_message import (
    TYPE_A,
    TYPE_AAAA,
    TYPE_PTR,
    MalformedMessage,
    Query,
    answer_addresses,
    answer_name,
    answers,
    fitted,
    format_error,
    parse_query,
    refuse,
    with_identifier,
)
from engine.networks.model import Endpoint
from engine.networks.names import Directory, address_of_pointer
from engine.networks.resolver_config import parse_resolver_config

log = logging.getLogger(__name__)

PATIENCE = 2.0  # seconds for one resolver's answer
TCP_IDLE = 30.0  # seconds a client may keep a connection without asking
MOST_IN_FLIGHT = 1024  # forwarded queries, all containers together
MOST_A_CONTAINER = 128
PORT = 53


@dataclass(frozen=True, slots=True)
class View:
    """What one container may know, at this moment."""

    endpoints: tuple[Endpoint, ...]
    servers: tuple[str, ...] = ()  # its own choice of resolvers; () = the host's
    forwards: bool = True  # False: it has internal networks only


class HostResolvers:
    """The name servers of resolv.conf, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] = (-1, -1)
        self._servers: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        try:
            status = os.stat(self.path)
            if (status.st_mtime_ns, status.st_ino) != self._seen:
                text = self.path.read_text(errors="replace")
                # resolv.conf(5): without a nameserver line, the one on this machine.
                self._servers = parse_resolver_config(text).servers or ("127.0.0.1",)
                self._seen = (status.st_mtime_ns, status.st_ino)
        except FileNotFoundError:
            self._seen, self._servers = (-1, -1), ("127.0.0.1",)
        return self._servers


@dataclass(slots=True)
class _Served:
    """One container's sockets and what is under way for it."""

    udp: asyncio.DatagramTransport
    tcp: asyncio.Server
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class NameService:
    def __init__(
        self,
        directory: Directory,
        view: Callable[[str], View | None],
        fittest: Callable[[Sequence[Endpoint]], Sequence[Endpoint]],
        *,
        resolvers: Path = Path("/etc/resolv.conf"),
        port: int = PORT,
    ) -> None:
        self._directory = directory
        self._view = view
        self._fittest = fittest  # of several of one name
        self._resolvers = HostResolvers(resolvers)
        self._port = port
        self._served: dict[str, _Served] = {}
        self._in_flight = 0
        self._all_known = asyncio.Event()
        self._all_known.set()

    def hold(self) -> None:
        """Questions wait until `release`: a new daemon knows of one container after the other, and
        who is asked for may be among the last."""
        self._all_known.clear()

    def release(self) -> None:
        self._all_known.set()

    def serves(self, container_id: str) -> bool:
        return container_id in self._served

    async def serve(self, container_id: str, udp: int, tcp: int) -> None:
        """Takes over both descriptors."""
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        with contextlib.ExitStack() as undo:
            udp_socket = undo.enter_context(socket.socket(fileno=udp))
            tcp_socket = undo.enter_context(socket.socket(fileno=tcp))
            udp_socket.setblocking(False)
            tcp_socket.setblocking(False)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self, container_id, tasks), sock=udp_socket
            )
            undo.callback(transport.close)
            server = await asyncio.start_server(
                lambda reader, writer: self._converse(container_id, reader, writer),
                sock=tcp_socket,
            )
            undo.pop_all()
        self._served[container_id] = _Served(transport, server, tasks)

    async def stop(self, container_id: str) -> None:
        served = self._served.pop(container_id, None)
        if served is None:
            return
        served.udp.close()
        served.tcp.close()
        for task in served.tasks:
            task.cancel()
        await asyncio.gather(*served.tasks, return_exceptions=True)

    async def close(self) -> None:
        for container_id in list(self._served):
            await self.stop(container_id)

    async def _converse(
        self, container_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """RFC 7766: queries over one connection, each with its length before it."""
        served = self._served.get(container_id)
        task = asyncio.current_task()
        if served is None or task is None or len(served.tasks) >= MOST_A_CONTAINER:
            writer.close()
            return
        served.tasks.add(task)
        try:
            while True:
                async with asyncio.timeout(TCP_IDLE):
                    (length,) = struct.unpack("!H", await reader.readexactly(2))
                    raw = await reader.readexactly(length)
                reply = await self.answer(container_id, raw, over_tcp=True)
                if reply is None:
                    return
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        except (EOFError, OSError, TimeoutError):
            return  # the client is gone, or slow beyond reason
        finally:
            served.tasks.discard(task)
            writer.close()

    async def answer(self, container_id: str, raw: bytes, *, over_tcp: bool) -> bytes | None:
        """The whole reply, or None where none is due."""
        await self._all_known.wait()
        view = self._view(container_id)
        if view is None:
            return None
        try:
            query = parse_query(raw)
        except MalformedMessage as error:
            log.debug("container %s sent a malformed DNS query: %s", container_id, error)
            return format_error(raw)
        reply = self._known(view, query)
        if reply is None:
            reply = await self._forward(view, query, over_tcp=over_tcp)
        return reply if over_tcp else fitted(query, reply)

    def _known(self, view: View, query: Query) -> bytes | None:
        """The answer where the question is about the container's own networks."""
        if query.type == TYPE_PTR:
            address = address_of_pointer(query.name)
            name = self._directory.name_of(view.endpoints, address) if address else None
            return answer_name(query, name) if name else None
        found = self._directory.endpoints(view.endpoints, query.name)
        if not found:
            return None
        addresses = [
            address for each in self._fittest(found) for address in _addresses(each, query.type)
        ]
        random.shuffle(addresses)
        return answer_addresses(query, addresses)

    async def _forward(self, view: View, query: Query, *, over_tcp: bool) -> bytes:
        if not view.forwards:
            # CVE-2024-29018: names are a way out too. NXDOMAIN, as C libraries ask again and
            # again after REFUSED or SERVFAIL.
            return refuse(query, "NXDOMAIN")
        if self._in_flight >= MOST_IN_FLIGHT:
            return refuse(query, "SERVFAIL")
        self._in_flight += 1
        try:
            for server in view.servers or self._resolvers.servers():
                reply = await self._ask(server, query, over_tcp=over_tcp)
                if reply is not None:
                    return reply
        finally:
            self._in_flight -= 1
        return refuse(query, "SERVFAIL")

    async def _ask(self, server: str, query: Query, *, over_tcp: bool) -> bytes | None:
        """One resolver's answer; None where there is none in time."""
        identifier = secrets.randbelow(1 << 16)
        asked = with_identifier(query.raw, identifier)
        exchange = _exchange_tcp if over_tcp else _exchange_udp
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await exchange(
                    (server, self._port), asked, lambda raw: answers(query, identifier, raw)
                )
        except (OSError, EOFError, TimeoutError) as error:
            log.debug("no answer from resolver %s for %r: %r", server, query.name, error)
            return None
        return with_identifier(reply, query.identifier)


def _addresses(endpoint: Endpoint, kind: int) -> Sequence[str]:
    if kind == TYPE_A and endpoint.ipv4_address:
        return (endpoint.ipv4_address,)
    if kind == TYPE_AAAA and endpoint.ipv6_address:
        return (endpoint.ipv6_address,)
    return ()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(
        self, service: NameService, container_id: str, tasks: set[asyncio.Task[None]]
    ) -> None:
        self._service = service
        self._container_id = container_id
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # In Python 3.11 the class of it is no subclass yet.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        # Beyond the limit queries are dropped, as a busy network would: clients ask again.
        if len(self._tasks) < MOST_A_CONTAINER:
            task = asyncio.get_running_loop().create_task(self._answer(data, addr))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        try:
            reply = await self._service.answer(self._container_id, data, over_tcp=False)
        except Exception:
            log.exception("container %s: a DNS query could not be answered", self._container_id)
            return
        if reply is not None and not self._transport.is_closing():
            self._transport.sendto(reply, addr)

    def error_received(self, exc: Exception) -> None:
        log.debug("container %s: DNS socket: %s", self._container_id, exc)


async def _exchange_tcp(
    server: tuple[str, int], asked: bytes, accept: Callable[[bytes], bool]
) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(asked)) + asked)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        reply = await reader.readexactly(length)
    finally:
        writer.close()
    if not accept(reply):
        raise OSError("the answer is to another question")
    return reply


async def _exchange_udp(
    server: tuple[str, int], asked: bytes, accept: Callable[[bytes], bool]
) -> bytes:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[bytes] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Question(waiting, accept), remote_addr=server
    )
    try:
        transport.sendto(asked)
        return await waiting
    finally:
        transport.close()


class _Question(asyncio.DatagramProtocol):
    """A socket, so a random source port, for each question: hard to forge an answer to."""

    def __init__(self, waiting: "asyncio.Future[bytes]", accept: Callable[[bytes], bool]) -> None:
        self._waiting = waiting
        self._accept = accept

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._waiting.done() and self._accept(data):
            self._waiting.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._waiting.done():
            self._waiting.set_exception(exc)
