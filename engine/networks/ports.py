"""Ports of the host: chosen, and held so that no other program takes them meanwhile."""

import contextlib
import errno
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import Failure, InvalidRequest, Unsupported
from engine.networks.firewall_rules import WILDCARD
from engine.networks.model import PortBinding, PortRequest

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
SOCKET_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class HostPorts:
    """Which container has which port. A held port is a socket bound on the host, not listening:
    other programs get EADDRINUSE, and the packets go by the firewall's map before it."""

    def __init__(self) -> None:
        self._held: dict[str, list[tuple[PortBinding, list[socket.socket]]]] = {}
        self._recent = 0  # ephemeral ports go round, so that one isn't used again at once

    def bindings(self, container_id: str) -> tuple[PortBinding, ...]:
        return tuple(binding for binding, _ in self._held.get(container_id, ()))

    def reserve(self, container_id: str, wanted: Sequence[PortRequest]) -> tuple[PortBinding, ...]:
        """All or none. Raises Failure with the address that is taken."""
        for request in wanted:
            check(request)
        with contextlib.ExitStack() as undo:
            held = self._held.setdefault(container_id, [])
            before = len(held)
            undo.callback(self._release_after, container_id, before)
            # Fixed ports first: an ephemeral one must not take what is asked for by number.
            order = sorted(range(len(wanted)), key=lambda i: wanted[i].host_port == 0)
            found: dict[int, PortBinding] = {}
            for index in order:
                binding, sockets = self._bind(wanted[index])
                held.append((binding, sockets))
                found[index] = binding
            undo.pop_all()
        return tuple(found[index] for index in range(len(wanted)))

    def hold_again(self, container_id: str, bindings: Sequence[PortBinding]) -> list[str]:
        """After a restart: what can't be held says why; the container keeps its port all the
        same, for the firewall leads there."""
        complaints = []
        held = self._held.setdefault(container_id, [])
        for binding in bindings:
            sockets: list[socket.socket] = []
            try:
                sockets = bind(binding.protocol, binding.host_ip, binding.host_port)
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

    def _bind(self, request: PortRequest) -> tuple[PortBinding, list[socket.socket]]:
        host_ip = request.host_ip or WILDCARD
        last: Failure | None = None
        for port in self._candidates(request):
            if self._is_ours(request.protocol, host_ip, port):
                last = Failure(f"Bind for {host_ip}:{port} failed: port is already allocated")
                continue
            try:
                sockets = bind(request.protocol, host_ip, port)
            except OSError as error:
                last = _refusal(request.protocol, host_ip, port, error)
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    break
                continue
            if request.host_port == 0:
                self._recent = port
            binding = PortBinding(request.container_port, request.protocol, host_ip, port)
            return binding, sockets
        raise last or Failure(f"no free {request.protocol} port on {host_ip}")

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.host_port:
            yield from range(request.host_port, (request.host_port_end or request.host_port) + 1)
            return
        first, last = (int(word) for word in EPHEMERAL_RANGE.read_text().split())
        start = self._recent + 1 if first <= self._recent < last else first
        yield from range(start, last + 1)
        yield from range(first, start)

    def _is_ours(self, protocol: str, host_ip: str, port: int) -> bool:
        return any(
            binding.protocol == protocol
            and binding.host_port == port
            and (binding.host_ip == host_ip or WILDCARD in (binding.host_ip, host_ip))
            for held in self._held.values()
            for binding, _ in held
        )


def _refusal(protocol: str, host_ip: str, port: int, error: OSError) -> Failure:
    reason = (error.strerror or str(error)).lower()
    return Failure(f"failed to bind host port {host_ip}:{port}/{protocol}: {reason}")


def check(request: PortRequest) -> None:
    if request.protocol not in SOCKET_TYPES:
        raise Unsupported(
            f"cannot publish port {request.container_port}/{request.protocol}:"
            " this engine publishes tcp and udp"
        )
    end = request.host_port_end or request.host_port
    for port in (request.container_port, request.host_port or 1, end or 1):
        if not 1 <= port <= 65535:
            raise InvalidRequest(f"cannot publish port {port}: ports run from 1 to 65535")
    if end < request.host_port:
        raise InvalidRequest(f"invalid range of host ports: {request.host_port}-{end}")
    if ":" in request.host_ip:
        raise Unsupported(
            f"cannot publish a port on {request.host_ip}: this engine publishes on IPv4 addresses"
        )
    try:
        socket.inet_pton(socket.AF_INET, request.host_ip or WILDCARD)
    except OSError as error:
        raise InvalidRequest(f"invalid host address {request.host_ip!r}") from error


def bind(protocol: str, host_ip: str, port: int) -> list[socket.socket]:
    """Sockets that hold the port; for all IPv4 addresses also the IPv6 ones, where there are any.
    Raises OSError."""
    with contextlib.ExitStack() as undo:
        sockets = [undo.enter_context(_bound(socket.AF_INET, protocol, host_ip, port))]
        if host_ip == WILDCARD and socket.has_ipv6:
            try:
                sockets.append(undo.enter_context(_bound(socket.AF_INET6, protocol, "::", port)))
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise
        undo.pop_all()
    return sockets


def _bound(family: int, protocol: str, address: str, port: int) -> socket.socket:
    kind = SOCKET_TYPES[protocol]
    handle = socket.socket(family, kind | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_DGRAM:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
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
