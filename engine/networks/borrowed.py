"""A container's descriptors while something is done with its network."""

import os
from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar

from engine.networks.endpoint import port_of
from engine.networks.netlink_socket import NetlinkSocket

P = ParamSpec("P")
T = TypeVar("T")


class NetworkSockets(Protocol):
    """Descriptors of one container's network namespace. Whoever gets them owns them: namespace,
    route and netfilter are closed again, the DNS sockets (-1 = none) are served on."""

    @property
    def namespace(self) -> int: ...
    @property
    def route(self) -> int: ...
    @property
    def netfilter(self) -> int: ...
    @property
    def dns_udp(self) -> int: ...
    @property
    def dns_tcp(self) -> int: ...


class Borrowed:
    def __init__(self, sockets: NetworkSockets) -> None:
        self.namespace = sockets.namespace
        self.route = NetlinkSocket.adopt(sockets.route)
        self._netfilter_descriptor = sockets.netfilter
        self._netfilter: NetlinkSocket | None = None
        self.dns_udp = sockets.dns_udp
        self.dns_tcp = sockets.dns_tcp
        self.is_closed = False
        self.dns_ports: tuple[int, int] | None = None
        if sockets.dns_udp >= 0:
            self.dns_ports = (port_of(sockets.dns_udp), port_of(sockets.dns_tcp))

    @property
    def netfilter(self) -> NetlinkSocket:
        """Most have no name service to lead to, and do without."""
        if self._netfilter is None:
            self._netfilter = NetlinkSocket.adopt(self._netfilter_descriptor)
            self._netfilter_descriptor = -1
        return self._netfilter

    def hand_over_dns(self) -> tuple[int, int]:
        handed = (self.dns_udp, self.dns_tcp)
        self.dns_udp = self.dns_tcp = -1
        return handed

    def used_up_by(self, function: Callable[P, T]) -> Callable[P, T]:
        """`function`, which is the last to need this."""

        def use(*arguments: P.args, **named: P.kwargs) -> T:
            try:
                return function(*arguments, **named)
            finally:
                self.close()

        return use

    def close(self) -> None:
        """All but those that were handed over. Blocking: nftables makes the last user of a socket
        wait for what it has deleted."""
        self.is_closed = True
        self.route.close()
        if self._netfilter is not None:
            self._netfilter.close()
        left = (self.namespace, self._netfilter_descriptor, self.dns_udp, self.dns_tcp)
        for descriptor in left:
            if descriptor >= 0:
                os.close(descriptor)
