"""Ports of the host: chosen, and held so that no other program takes them meanwhile."""

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import Failure, InvalidRequest, Unsupported
from engine.networks.firewall_rules import (
    WILDCARD,
    WILDCARD6,
)
from engine.networks.model import PortBinding, PortRequest, version_of

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
SOCKET_TYPES = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}


class HostPorts:
    """Which container has which port. A held port is a socket bound on the host, not listening:
    other programs get EADDRINUSE, and the packets go by the firewall's map before it."""

    def __init__(self) -> None:
        self._held: dict[str, list[tuple[PortBinding, list[socket.socket]]]] = {}
        self._recent = 0  # ephemeral ports go round, so that one isn't used again at once

    def bindings(self, container_id: str) -> tuple[PortBinding, ...]:
        return tuple(binding for binding, _ in self._held.get(container_id, ()))

    def reserve(
        self, container_id: str, wanted: Sequence[tuple[PortRequest, tuple[str, ...]]]
    ) -> tuple[PortBinding, ...]:
        """All or none, each request on the same port of all its host addresses. Raises Failure
        with the address that is taken."""
        with contextlib.ExitStack() as undo:
            held = self._held.setdefault(container_id, [])
            before = len(held)
            undo.callback(self._release_after, container_id, before)
            # Fixed ports first: an ephemeral one must not take what is asked for by number.
            order = sorted(range(len(wanted)), key=lambda i: wanted[i][0].host_port == 0)
            found: dict[int, list[PortBinding]] = {}
            for index in order:
                bound = self._bind(*wanted[index])
                held += bound
                found[index] = [binding for binding, _ in bound]
            undo.pop_all()
        return tuple(binding for index in range(len(wanted)) for binding in found[index])

    def sockets(self, container_id: str) -> Iterator[tuple[PortBinding, socket.socket]]:
        """What holds each of its ports; what couldn't be held after a restart is left out."""
        for binding, handles in self._held.get(container_id, ()):
            if handles:
                yield binding, handles[0]

    def hold_again(self, container_id: str, bindings: Sequence[PortBinding]) -> list[str]:
        """After a restart: what can't be held says why; the container keeps its port all the
        same, for the firewall leads there."""
        complaints = []
        held = self._held.setdefault(container_id, [])
        for binding in bindings:
            if not binding.host_port:
                continue  # open at the container's own address
            sockets: list[socket.socket] = []
            try:
                theirs = self._shared_with(binding)
                if theirs is not None:
                    held.append((binding, [each.dup() for each in theirs]))
                    continue
                sockets = [bind(binding.protocol, binding.host_ip, binding.host_port)]
            except OSError as error:
                where = f"{binding.host_ip}:{binding.host_port}/{binding.protocol}"
                complaints.append(f"{where}: {error.strerror}")
            held.append((binding, sockets))
        return complaints

    def release(self, container_id: str) -> None:
        self._release_after(container_id, 0)

    def _release_after(self, container_id: str, count: int) -> None:
        held = self._held.get(container_id, [])
        while len(held) > count:
            for handle in held.pop()[1]:
                handle.close()
        if not held:
            self._held.pop(container_id, None)

    def close(self) -> None:
        for container_id in list(self._held):
            self.release(container_id)

    def _bind(
        self, request: PortRequest, host_ips: tuple[str, ...]
    ) -> list[tuple[PortBinding, list[socket.socket]]]:
        last: Failure | None = None
        for port in self._candidates(request):
            try:
                bound = self._bind_all(request, host_ips, port)
            except _Taken as taken:
                last = taken.failure
                if not taken.others_may_do:
                    break
                continue
            if request.host_port == 0:
                self._recent = port
            return bound
        raise last or Failure(f"no free {request.protocol} port on {host_ips[0]}")

    def _bind_all(
        self, request: PortRequest, host_ips: tuple[str, ...], port: int
    ) -> list[tuple[PortBinding, list[socket.socket]]]:
        protocol, shared = request.protocol, request.shared
        bound = []
        with contextlib.ExitStack() as undo:
            for host_ip in host_ips:
                binding = PortBinding(request.container_port, protocol, host_ip, port, shared)
                if (theirs := self._shared_with(binding)) is not None:
                    # The other's socket holds it: this one's descriptors are further ones of it.
                    bound.append((binding, [undo.enter_context(each.dup()) for each in theirs]))
                    continue
                if self._is_ours(protocol, host_ip, port):
                    words = f"Bind for {_shown(host_ip)}:{port} failed: port is already allocated"
                    raise _Taken(Failure(words), others_may_do=True)
                try:
                    sockets = [bind(protocol, host_ip, port)]
                except OSError as error:
                    if host_ip == WILDCARD6 and not request.host_ip and _lacks_ipv6(error):
                        continue  # "all addresses" are those that this host has
                    others_may_do = error.errno in (errno.EADDRINUSE, errno.EACCES)
                    failure = _refusal(protocol, host_ip, port, error)
                    raise _Taken(failure, others_may_do=others_may_do) from error
                undo.enter_context(sockets[0])
                bound.append((binding, sockets))
            undo.pop_all()
        return bound

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.host_port:
            yield from range(request.host_port, (request.host_port_end or request.host_port) + 1)
            return
        first, last = (int(word) for word in EPHEMERAL_RANGE.read_text().split())
        start = self._recent + 1 if first <= self._recent < last else first
        yield from range(start, last + 1)
        yield from range(first, start)

    def _shared_with(self, binding: PortBinding) -> list[socket.socket] | None:
        """What holds the port for other containers that share it; None where nobody does."""
        if not binding.shared:
            return None
        for held in self._held.values():
            for other, sockets in held:
                same = (other.protocol, other.host_ip, other.host_port) == (
                    binding.protocol, binding.host_ip, binding.host_port
                )  # fmt: skip
                if same and other.shared:
                    return sockets
        return None

    def _is_ours(self, protocol: str, host_ip: str, port: int) -> bool:
        return any(
            binding.protocol == protocol
            and binding.host_port == port
            and version_of(binding.host_ip) == version_of(host_ip)
            and (binding.host_ip == host_ip or {WILDCARD, WILDCARD6} & {binding.host_ip, host_ip})
            for held in self._held.values()
            for binding, _ in held
        )


class _Taken(Exception):
    """The port can't be had; `others_may_do`: the next one of a range is worth a try."""

    def __init__(self, failure: Failure, *, others_may_do: bool) -> None:
        super().__init__(str(failure))
        self.failure = failure
        self.others_may_do = others_may_do


def _lacks_ipv6(error: OSError) -> bool:
    return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def _shown(host_ip: str) -> str:
    return f"[{host_ip}]" if ":" in host_ip else host_ip


def _refusal(protocol: str, host_ip: str, port: int, error: OSError) -> Failure:
    reason = (error.strerror or str(error)).lower()
    return Failure(f"failed to bind host port {_shown(host_ip)}:{port}/{protocol}: {reason}")


def check(request: PortRequest) -> None:
    if request.protocol not in SOCKET_TYPES:
        raise Unsupported(
            f"cannot publish port {request.container_port}/{request.protocol}:"
            " this engine publishes tcp, udp and sctp"
        )
    end = request.host_port_end or request.host_port
    for port in (request.container_port, request.host_port or 1, end or 1):
        if not 1 <= port <= 65535:
            raise InvalidRequest(f"cannot publish port {port}: ports run from 1 to 65535")
    if end < request.host_port:
        raise InvalidRequest(f"invalid range of host ports: {request.host_port}-{end}")
    try:
        ipaddress.ip_address(request.host_ip or WILDCARD)
    except ValueError as error:
        raise InvalidRequest(f"invalid host address {request.host_ip!r}") from error


def bind(protocol: str, host_ip: str, port: int) -> socket.socket:
    """A socket that holds the port, of this IP version only. Raises OSError."""
    family = socket.AF_INET6 if version_of(host_ip) == 6 else socket.AF_INET
    return _bound(family, protocol, host_ip, port)


def _bound(family: int, protocol: str, address: str, port: int) -> socket.socket:
    kind, number = SOCKET_TYPES[protocol]
    handle = socket.socket(family, kind | socket.SOCK_CLOEXEC, number)
    try:
        if family == socket.AF_INET6:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            handle.bind((address, port))
            return handle
        if number == socket.IPPROTO_SCTP:
            handle.bind((address, port))
            return handle
        # Connections of a server that just ended (TIME_WAIT) are in nobody's way, but only a
        # listening socket with SO_REUSEADDR finds the conflicts that count. Then it stops to
        # listen: bound by number, it keeps the port.
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        handle.bind((address, port))
        handle.listen(0)
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        handle.shutdown(socket.SHUT_RD)
    except BaseException:
        handle.close()
        raise
    return handle
