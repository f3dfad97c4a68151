"""A machine with neighbours: network namespaces that stand for the host, other hosts, containers.

The test itself runs in the host's namespace (and so does every thread that it starts).
"""

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from engine.ids import new_id
from engine.networks import link_message as link
from engine.networks.model import (
    DnsOptions,
    Endpoint,
    EndpointRequest,
    Network,
    NetworkSpec,
    PortBinding,
    PortRequest,
)
from engine.networks.netlink_socket import NETFILTER, ROUTE, NetlinkSocket
from engine.networks.operations import Networks

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
TAG = "0badcafe"
LIBC = ctypes.CDLL(None, use_errno=True)


def call(function: str, *arguments: int) -> None:
    if getattr(LIBC, function)(*arguments):
        raise OSError(ctypes.get_errno(), function)


class Namespace:
    """A network namespace, held open by a descriptor; what is called runs in a thread inside."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def new(cls) -> "Namespace":
        found: list[int] = []

        def make() -> None:
            call("unshare", CLONE_NEWNET)
            found.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY))

        _in_thread(make)
        namespace = cls(found[0])
        namespace.run(bring_up_loopback)
        return namespace

    def run(self, function: Callable[[], T]) -> T:
        def enter() -> T:
            call("setns", self.descriptor, CLONE_NEWNET)
            return function()

        return _in_thread(enter)

    def close(self) -> None:
        os.close(self.descriptor)


def _in_thread(function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def bring_up_loopback() -> None:
    with NetlinkSocket.open(ROUTE) as route:
        route.request(link.set_up("lo", 1))


def add_default_route(gateway: str) -> None:
    with NetlinkSocket.open(ROUTE) as route:
        (found,) = route.request(link.get_link("eth0"))
        route.request(link.default_route(link.index_of(found), gateway))


@dataclass
class Sockets:
    namespace: int
    route: int
    netfilter: int
    dns_udp: int = -1
    dns_tcp: int = -1


@dataclass
class Container:
    """Stands for one: a namespace, and what the shim and the containers' record keep."""

    id: str
    namespace: Namespace
    name: str
    dns: tuple[socket.socket, socket.socket]
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PortBinding, ...] = ()

    @property
    def address(self) -> str:
        return self.endpoints[0].ipv4_address

    @property
    def address6(self) -> str:
        return self.endpoints[0].ipv6_address

    def sockets(self) -> Sockets:
        """As a shim makes them, each time anew."""
        netlink = socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC

        def open_netlink(protocol: int) -> int:
            handle = socket.socket(*netlink, protocol)
            handle.bind((0, 0))
            return handle.detach()

        return Sockets(
            namespace=os.dup(self.namespace.descriptor),
            route=self.namespace.run(lambda: open_netlink(ROUTE)),
            netfilter=self.namespace.run(lambda: open_netlink(NETFILTER)),
            dns_udp=os.dup(self.dns[0].fileno()),
            dns_tcp=os.dup(self.dns[1].fileno()),
        )


def name_sockets() -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.11", 0))
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    tcp.bind(("127.0.0.11", 0))
    return udp, tcp


class Machine:
    """The host, its neighbours, and one engine's networks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.networks: Networks
        self.containers: list[Container] = []
        self.namespaces: list[Namespace] = []
        self.undo = contextlib.ExitStack()

    def namespace(self) -> Namespace:
        namespace = Namespace.new()
        self.namespaces.append(namespace)
        return namespace

    def neighbour(self, subnet: str = "10.9.0") -> Namespace:
        """Another machine at .2 of a /24 where this host is .1, and so of 2001:db8:third::/64."""
        other = self.namespace()
        third = subnet.rsplit(".")[-1]
        with NetlinkSocket.open(ROUTE) as route:
            bridge = f"lan{third}"
            route.request(link.create_bridge(bridge, f"02:00:00:00:09:0{third}", 0))
            (found,) = route.request(link.get_link(bridge))
            index = link.index_of(found)
            route.request(
                link.add_address(index, f"{subnet}.1", 24),
                link.add_address(index, f"2001:db8:{third}::1", 64),
                link.set_up(bridge, index),
            )
            veth = link.create_veth(
                host_ifname=f"out{third}",
                bridge_index=index,
                mtu=0,
                namespace=other.descriptor,
                ifname="eth0",
                mac_address=f"02:00:00:00:08:0{third}",
            )
            route.request(veth)

        def inside() -> None:
            with NetlinkSocket.open(ROUTE) as route:
                (found,) = route.request(link.get_link("eth0"))
                index = link.index_of(found)
                address = link.add_address(index, f"{subnet}.2", 24)
                address6 = link.add_address(index, f"2001:db8:{third}::2", 64)
                route.request(link.set_up("eth0", index), address, address6)

        other.run(inside)
        return other

    async def network(self, name: str, **fields: object) -> Network:
        return await self.networks.create(NetworkSpec(name, **fields))  # type: ignore[arg-type]

    async def container(
        self,
        name: str,
        *networks: Network,
        ports: tuple[PortRequest, ...] = (),
        aliases: tuple[str, ...] = (),
        dns: DnsOptions = DnsOptions(),  # noqa: B008 - frozen
        ipv4_address: str = "",
        ipv6_address: str = "",
    ) -> Container:
        namespace = self.namespace()
        container = Container(new_id(), namespace, name, namespace.run(name_sockets))
        for handle in container.dns:
            self.undo.callback(handle.close)
        self.containers.append(container)
        request = EndpointRequest(
            container.id,
            name,
            aliases=aliases,
            ipv4_address=ipv4_address,
            ipv6_address=ipv6_address,
        )
        container.endpoints = tuple(self.networks.allocate(each, request) for each in networks)
        container.ports = self.networks.reserve_ports(container.id, ports, container.endpoints)
        await self.networks.join(
            container.id, container.endpoints, container.sockets(), container.ports, dns=dns
        )
        return container

    def crash(self) -> None:
        """kill -9: descriptors are gone, nothing was put in order."""
        networks = self.networks
        networks._publishing.close()
        for served in networks._names._served.values():
            served.udp.abort()
            served.tcp.close()
        networks._host.abandon()

    async def restart(self) -> None:
        """A new engine, to which the living containers are given."""
        self.networks = await Networks.open(self.root, name=TAG)
        for each in self.containers:
            await self.networks.adopt(each.id, each.endpoints, each.sockets(), each.ports)
        await self.networks.settle()

    async def restart_empty(self) -> None:
        self.networks = await Networks.open(self.root, name=TAG)


@pytest.fixture
def own_network() -> Iterator[None]:
    """The test's thread in a network namespace of its own, loopback up."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    call("unshare", CLONE_NEWNET)
    try:
        bring_up_loopback()
        yield
    finally:
        call("setns", before, CLONE_NEWNET)
        os.close(before)


@pytest.fixture
async def machine(own_network: None, tmp_path: Path) -> AsyncIterator[Machine]:
    machine = Machine(tmp_path / "networks")
    machine.networks = await Networks.open(machine.root, name=TAG)
    try:
        yield machine
    finally:
        for container in machine.containers:
            await machine.networks.leave(container.id)
        await machine.networks.close()
        for namespace in machine.namespaces:
            namespace.close()
        machine.undo.close()


class Listener:
    """A TCP server in a namespace that tells each client the address it came from."""

    def __init__(self, namespace: Namespace, port: int, address: str = "0.0.0.0") -> None:
        def listen() -> socket.socket:
            if ":" not in address:
                return socket.create_server((address, port))
            both = address == "::"
            return socket.create_server(
                (address, port), family=socket.AF_INET6, dualstack_ipv6=both
            )

        self.socket = namespace.run(listen)
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, peer = self.socket.accept()
            except OSError:
                return
            with client:
                client.sendall(self.greeting(peer[0]).encode())

    def greeting(self, peer: str) -> str:
        return peer

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *_: object) -> None:
        # accept() of another thread only wakes up by this.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


def visit(address: str, port: int, patience: float = 5) -> str:
    """What a Listener says: the address under which we arrive there. Raises OSError."""
    with socket.create_connection((address, port), timeout=patience) as connection:
        return connection.recv(100).decode()


def reaches(address: str, port: int, *, patience: float = 5) -> bool:
    """Whether a connection is taken in that many seconds."""
    try:
        visit(address, port, patience)
    except OSError:
        return False
    return True


def is_silent(address: str, port: int) -> bool:
    """Whether no connection is taken. What is dropped stays silent for ever, so the wait is
    short: a slow machine makes this say yes too easily, but never fails a test for nothing."""
    return not reaches(address, port, patience=0.3)
