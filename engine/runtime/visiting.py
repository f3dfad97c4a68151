"""Short visits to a container's namespaces; who makes one always comes back."""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Iterator

from engine.kernel import namespaces

DNS_ADDRESS = "127.0.0.11"
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_NETLINK_ROUTE = 0
_NETLINK_NETFILTER = 12


@contextlib.contextmanager
def in_network(namespace: int) -> Iterator[None]:
    """Sockets made inside belong to that network namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(namespace, namespaces.CLONE_NEWNET)
        try:
            yield
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNET)
    finally:
        os.close(home)


def new_network() -> int:
    """A descriptor of a network namespace that was made for it."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        try:
            return os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def joined_pid(path: str) -> Iterator[None]:
    """Children made inside are in the PID namespace at `path`; "" changes nothing."""
    if not path:
        yield
        return
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    wanted = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(wanted, namespaces.CLONE_NEWPID, path=path)
        try:
            yield
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWPID)
    finally:
        os.close(home)
        os.close(wanted)


def raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("=16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def dns_sockets() -> tuple[int, int]:
    """UDP and TCP, each on a port of its own at the address that containers ask."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for one in (udp, tcp):
        one.bind((DNS_ADDRESS, 0))
    tcp.listen(128)
    return udp.detach(), tcp.detach()


def netlink_sockets() -> tuple[int, int]:
    """For routes and links, and for netfilter."""
    route, netfilter = (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family).detach()
        for family in (_NETLINK_ROUTE, _NETLINK_NETFILTER)
    )
    return route, netfilter
