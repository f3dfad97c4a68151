"""Carries by hand what the kernel can't lead: it drops what goes from ::1 to another host, and has
no way from an IPv6 address of this host to a container that has IPv4 only, nor back.

The sockets are those that hold the ports anyway. Clients arrive at the container under the address
of its network's bridge, and wait while the daemon is down; all other ports need neither.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.networks.model import PortBinding, version_of

log = logging.getLogger(__name__)

Target = tuple[str, int]
Peer = tuple[str | int, ...]  # as recvfrom(2) tells it
Choose = Callable[[PortBinding], Target | None]  # where a new client is led now

CARRIED = ("tcp", "udp")
MOST_CONNECTIONS = 1024  # of all containers together: each takes two descriptors
MOST_CLIENTS = 512  # of one UDP port; the one that was silent for longest goes
SILENCE = 90.0  # seconds until a UDP client is forgotten: Docker's
BACKLOG = 128
PAUSE = 1.0  # seconds until another try to take a connection, after one that failed
CHUNK = 1 << 16  # bytes


@dataclass(slots=True)
class _Carried:
    """The ports of one container."""

    stops: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Carrier:
    def __init__(self, choose: Choose) -> None:
        self._choose = choose
        self._carried: dict[str, _Carried] = {}
        self._connections = 0

    def carry(self, container_id: str, held: Sequence[tuple[PortBinding, socket.socket]]) -> None:
        """These and no others, from now on. The sockets stay the caller's."""
        self.stop(container_id)
        if not held:
            return
        carried = self._carried[container_id] = _Carried()
        for binding, handle in held:
            own = carried.stops.enter_context(handle.dup())
            own.setblocking(False)
            try:
                if binding.protocol == "tcp":
                    self._listen(binding, own, carried)
                else:
                    relay = _Datagrams(own, partial(self._choose, binding))
                    carried.stops.callback(relay.close)
            except OSError as error:
                log.warning("cannot carry %s:%d: %s", binding.host_ip, binding.host_port, error)

    def stop(self, container_id: str) -> None:
        carried = self._carried.pop(container_id, None)
        if carried is not None:
            carried.stops.close()
            for task in carried.tasks:
                task.cancel()

    def close(self) -> None:
        for container_id in list(self._carried):
            self.stop(container_id)

    def _listen(self, binding: PortBinding, own: socket.socket, carried: _Carried) -> None:
        loop = asyncio.get_running_loop()
        # Handed on to its connections, so that those that end keep the port from nobody who binds
        # it anew (as the next daemon does).
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.listen(BACKLOG)

        def accept() -> None:
            try:
                client, _ = own.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                    # Out of descriptors, say: those who wait are still there a little later.
                    log.warning("port %d takes no connection: %s", binding.host_port, error)
                    loop.remove_reader(own)
                    loop.call_later(PAUSE, take)
                return
            target = self._choose(binding)
            if target is None or self._connections >= MOST_CONNECTIONS:
                client.close()
                return
            client.setblocking(False)
            task = loop.create_task(self._converse(client, target))
            carried.tasks.add(task)
            task.add_done_callback(carried.tasks.discard)

        def take() -> None:
            if own.fileno() >= 0:  # it is still carried
                loop.add_reader(own, accept)

        take()
        carried.stops.callback(loop.remove_reader, own)

    async def _converse(self, client: socket.socket, target: Target) -> None:
        self._connections += 1
        try:
            with client, _socket(target, socket.SOCK_STREAM) as server:
                loop = asyncio.get_running_loop()
                await loop.sock_connect(server, target)
                async with asyncio.TaskGroup() as both:
                    both.create_task(_pump(client, server))
                    both.create_task(_pump(server, client))
        except* OSError as group:
            # One end is gone, and with it the other: what a router in between would show, too.
            log.debug("a carried connection ended: %s", group.exceptions[0])
        finally:
            self._connections -= 1


async def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Until the end of `source`, which the other side is told; answers may still come."""
    loop = asyncio.get_running_loop()
    while chunk := await loop.sock_recv(source, CHUNK):
        await loop.sock_sendall(sink, chunk)
    sink.shutdown(socket.SHUT_WR)


def _socket(target: Target, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if version_of(target[0]) == 6 else socket.AF_INET
    handle = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    handle.setblocking(False)
    return handle


@dataclass(slots=True)
class _Client:
    socket: socket.socket  # connected to the container
    heard: float  # of the loop's clock


class _Datagrams:
    """A UDP port: each client has a socket of its own to the container, by which answers come."""

    def __init__(self, own: socket.socket, choose: Callable[[], Target | None]) -> None:
        self._own = own
        self._choose = choose
        self._loop = asyncio.get_running_loop()
        self._clients: dict[Peer, _Client] = {}  # by address, the longest silent first
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, CHUNK * 4)
        self._loop.add_reader(own, self._from_client)
        self._sweeping = self._loop.call_later(SILENCE, self._sweep)

    def close(self) -> None:
        self._sweeping.cancel()
        self._loop.remove_reader(self._own)
        for peer in list(self._clients):
            self._forget(peer)

    def _from_client(self) -> None:
        with contextlib.suppress(OSError):
            data, peer = self._own.recvfrom(CHUNK)
            client = self._clients.pop(peer, None) or self._meet(peer)
            if client is not None:
                client.heard = self._loop.time()
                self._clients[peer] = client
                client.socket.send(data)

    def _meet(self, peer: Peer) -> _Client | None:
        target = self._choose()
        if target is None:
            return None
        if len(self._clients) >= MOST_CLIENTS:
            self._forget(next(iter(self._clients)))
        handle = _socket(target, socket.SOCK_DGRAM)
        handle.connect(target)
        self._loop.add_reader(handle, self._to_client, handle, peer)
        return _Client(handle, self._loop.time())

    def _to_client(self, handle: socket.socket, peer: Peer) -> None:
        # Lost on the way, as datagrams may be: nobody listens, or the client's network is gone.
        with contextlib.suppress(OSError):
            self._own.sendto(handle.recv(CHUNK), peer)

    def _forget(self, peer: Peer) -> None:
        client = self._clients.pop(peer)
        self._loop.remove_reader(client.socket)
        client.socket.close()

    def _sweep(self) -> None:
        long_ago = self._loop.time() - SILENCE
        for peer, client in list(self._clients.items()):
            if client.heard < long_ago:
                self._forget(peer)
        self._sweeping = self._loop.call_later(SILENCE, self._sweep)
