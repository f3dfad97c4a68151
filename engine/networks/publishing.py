"""Published ports: who holds which, where they lead, and over whom shared ones are spread."""

import logging
import random
import socket
from collections.abc import Iterable, Iterator, Sequence

from engine.errors import Failure
from engine.networks.carrier import CARRIED, Carrier
from engine.networks.catalog import Catalog
from engine.networks.endpoint import ways_out
from engine.networks.firewall_rules import (
    WILDCARD,
    WILDCARD6,
    PublishedPort,
    Spot,
)
from engine.networks.host_thread import HostThread
from engine.networks.model import Endpoint, PortBinding, PortRequest, Standing, version_of
from engine.networks.port_wishes import decide
from engine.networks.ports import HostPorts

log = logging.getLogger(__name__)

ANYWHERE = {4: WILDCARD, 6: WILDCARD6}
LOOPBACK6 = "::1"


class Publishing:
    def __init__(self, host: HostThread) -> None:
        self._host = host
        self._held = HostPorts()
        self._bindings: dict[str, tuple[PortBinding, ...]] = {}  # of containers that have joined
        self._published: dict[str, tuple[PublishedPort, ...]] = {}
        self._standings: dict[str, Standing] = {}  # of those that aren't ready
        self._reached: dict[str, dict[int, str]] = {}  # by container and IP version: where
        self._carrier = Carrier(self._choose)

    def reserve(
        self,
        container_id: str,
        wanted: Sequence[PortRequest],
        endpoints: Sequence[Endpoint],
        catalog: Catalog,
    ) -> tuple[PortBinding, ...]:
        """All of `wanted` or none; held until `leave`. What a port without an address is bound to
        depends on the networks by which the container of `endpoints` is reached."""
        if endpoints and not any(each.host_ifname for each in endpoints):
            return ()  # macvlan: nothing goes by way of this host; Docker too ignores the ports
        ways = _ways_in(endpoints)
        networks = {version: catalog[way.network_id] for version, way in ways.items()}
        wishes = decide(wanted, networks)
        return (*self._held.reserve(container_id, wishes.on_host), *wishes.at_home)

    def hold_again(self, container_id: str, ports: Sequence[PortBinding]) -> None:
        """After a restart of the daemon."""
        for complaint in self._held.hold_again(container_id, ports):
            log.warning("container %s: cannot hold port %s", container_id, complaint)

    def bindings(self, container_id: str) -> tuple[PortBinding, ...]:
        return self._bindings.get(container_id, ())

    def of(self, container_id: str) -> tuple[PublishedPort, ...]:
        return self._published.get(container_id, ())

    def all(self) -> set[PublishedPort]:
        return {port for ports in self._published.values() for port in ports}

    def remember(
        self,
        container_id: str,
        endpoints: Iterable[Endpoint],
        ports: Sequence[PortBinding],
        published: tuple[PublishedPort, ...],
    ) -> None:
        """It has joined, or what it has joined has changed."""
        self._bindings[container_id] = tuple(ports)
        self._published[container_id] = published
        self._reached[container_id] = {
            version: way.address(version) for version, way in _ways_in(endpoints).items()
        }
        self._carrier.carry(container_id, [*self._to_carry(container_id)])

    def _to_carry(self, container_id: str) -> Iterator[tuple[PortBinding, socket.socket]]:
        reached = self._reached[container_id]
        for binding, handle in self._held.sockets(container_id):
            led = version_of(binding.host_ip) in reached
            by_hand = not led or binding.host_ip in (WILDCARD6, LOOPBACK6)
            if reached and by_hand and binding.protocol in CARRIED:
                yield binding, handle

    def _choose(self, binding: PortBinding) -> tuple[str, int] | None:
        """Where a client of this port goes that comes now."""
        members = [
            (self._standing(container_id), container_id, each.container_port)
            for container_id, bindings in self._bindings.items()
            for each in bindings
            if (each.protocol, each.host_ip, each.host_port)
            == (binding.protocol, binding.host_ip, binding.host_port)
        ]
        best = min((standing for standing, *_ in members), default=0)
        able = [
            (reached.get(version_of(binding.host_ip)) or next(iter(reached.values())), port)
            for standing, container_id, port in members
            if standing == best and (reached := self._reached[container_id])
        ]
        return random.choice(able) if able else None

    async def leave(self, container_id: str) -> None:
        """Nobody is led to the container any more; its ports are free."""
        self._carrier.stop(container_id)
        self._reached.pop(container_id, None)
        published = self._published.pop(container_id, ())
        try:
            if published:
                await self._host.run(self._host.network.unpublish, alone(published))
                await self.spread(published)
        finally:
            self._standings.pop(container_id, None)
            self._bindings.pop(container_id, None)
            self._held.release(container_id)

    def close(self) -> None:
        self._carrier.close()
        self._held.close()

    async def regard(self, container_id: str, standing: Standing) -> None:
        if standing is self._standings.get(container_id, Standing.READY):
            return
        self._standings[container_id] = standing
        try:
            await self.spread(self.of(container_id))
        except Failure as error:
            # It is told of what is so already, or must be: nothing is undone for this.
            log.error(
                "container %s: its shared ports stay where they lead: %s", container_id, error
            )

    def is_relieved(self, container_id: str) -> bool:
        """Whether there is a fitter one for each of its shared ports."""
        own = self._standing(container_id)
        better = {
            port.spot
            for other, ports in self._published.items()
            if self._standing(other) < own
            for port in ports
            if port.shared
        }
        return all(port.spot in better for port in self.of(container_id) if port.shared)

    async def has_connections(self, container_id: str) -> bool:
        """Whether one that came by a shared port is open."""
        shared = [port for port in self.of(container_id) if port.shared]
        return await self._host.run(self._host.network.has_connections, shared)

    def fittest(self, found: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Those of the best standing among them; nobody is left with nothing."""
        if len(found) < 2 or not self._standings:
            return found
        best = min(self._standing(each.container_id) for each in found)
        return [each for each in found if self._standing(each.container_id) == best]

    def _standing(self, container_id: str) -> int:
        return self._standings.get(container_id, Standing.READY).value

    async def spread(self, changed: Iterable[PublishedPort]) -> None:
        """Shared ports among `changed` lead to the best of those that share them now."""
        spots = {port.spot for port in changed if port.shared}
        if not spots:
            return
        wanted: dict[Spot, list[PublishedPort]] = {}
        for spot in spots:
            members = [
                (self._standing(container_id), port)
                for container_id, ports in self._published.items()
                for port in ports
                if port.shared and port.spot == spot
            ]
            best = min((standing for standing, _ in members), default=0)
            wanted[spot] = [port for standing, port in members if standing == best]
        await self._host.run(self._host.network.share, wanted, self.all())


def targets(
    container_id: str,
    endpoints: Iterable[Endpoint],
    ports: Sequence[PortBinding],
    catalog: Catalog,
) -> tuple[PublishedPort, ...]:
    """Where the published ports lead: the container's address in the network of its gateway. For
    interfaces that this network trusts, they are open at that address too."""
    ways = _ways_in(endpoints)
    found = tuple(
        PublishedPort(
            each.protocol,
            each.host_ip,
            each.host_port,
            ways[version_of(each.host_ip)].address(version_of(each.host_ip)),
            each.container_port,
            each.shared,
        )
        for each in ports
        # Nothing is led from ::1 elsewhere.
        if version_of(each.host_ip) in ways and each.host_ip != LOOPBACK6
    )
    if ports and not ways:
        log.warning("container %s: internal networks publish no ports", container_id)
    opened = [
        PublishedPort(each.protocol, ANYWHERE[each.version], 0, each.address, each.port)
        for each in found
        if catalog[ways[each.version].network_id].trusted_interfaces
    ]
    return tuple(dict.fromkeys((*found, *opened)))


def _ways_in(endpoints: Iterable[Endpoint]) -> dict[int, Endpoint]:
    """By IP version, where the host reaches a container for its ports; macvlan and ipvlan links
    are on no network of the host's."""
    by_host = [each for each in endpoints if each.host_ifname]
    found = ways_out(by_host).by_version()
    return {version: way for version, way in found if way is not None}


def alone(ports: Iterable[PublishedPort]) -> tuple[PublishedPort, ...]:
    """Those with one owner."""
    return tuple(port for port in ports if not port.shared)
