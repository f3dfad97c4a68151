"""The host's side of networks: bridges, the firewall, forwarding, and containers' links.

Blocking, decides little: all of it runs in the one thread of `Networks`, in order.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Protocol

from engine.errors import Failure
from engine.networks import links
from engine.networks.endpoint import (
    Place,
    WaysOut,
    attach,
    configure,
    detach,
    is_configured,
    redirect_names,
    repair,
    route_by,
    ways_out,
)
from engine.networks.firewall import Firewall
from engine.networks.firewall_rules import (
    PublishedPort,
    Spot,
    make_tables,
    table_name,
)
from engine.networks.interface_sysctls import set_inside
from engine.networks.ipam import Subnet, choose_subnet, complete_pool, mac_of, refuse_overlap
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    AddressPool,
    Endpoint,
    Network,
)
from engine.networks.netlink_socket import ROUTE, NetlinkSocket
from engine.networks.parents import drop_parent, ensure_parent
from engine.records import read_record, sync_directory, write_record
from engine.settings import PoolOfSubnets

log = logging.getLogger(__name__)


class ContainerSockets(Protocol):
    """What is needed of a container's descriptors to set up its side."""

    @property
    def namespace(self) -> int: ...
    @property
    def route(self) -> NetlinkSocket: ...
    @property
    def netfilter(self) -> NetlinkSocket: ...
    @property
    def dns_ports(self) -> tuple[int, int] | None: ...


def bridge_of(network: Network, tag: str) -> links.Bridge:
    prefixes = {version: ip_network(p.subnet).prefixlen for version, p in by_version(network)}
    return links.Bridge(
        name=network.bridge,
        mac_address=mac_of(network.pools[0].gateway),
        addresses=tuple(
            (address, prefix)
            for version, prefix in prefixes.items()
            if (address := network.host_address(version))
        ),
        ipv6=6 in prefixes,
        mtu=network.mtu,
        alias=table_name(tag),
        generated=network.predefined or OPTION_BRIDGE_NAME not in network.options,
    )


def by_version(network: Network) -> tuple[tuple[int, AddressPool], ...]:
    return tuple((v, pool) for v in (4, 6) if (pool := network.pool(v)) is not None)


def free_pool(
    version: int,
    asked: AddressPool,
    own: Sequence[Subnet],
    tag: str,
    pools: Sequence[PoolOfSubnets] = (),
) -> AddressPool:
    """What `asked` says, or a subnet that is neither ours nor on this host's routes."""
    routes = links.host_routes(version)
    if asked.subnet:
        pool = complete_pool(asked)
        direct = [route.network for route in routes if route.direct]
        refuse_overlap(pool.subnet, [*own, *direct])
        return pool
    taken = [*own, *(route.network for route in routes)]
    chosen = choose_subnet(taken, version=version, tag=tag, pools=pools)
    return complete_pool(AddressPool(chosen, subnet_chosen=True))


class HostNetwork:
    def __init__(
        self, tag: str, forwarding_record: Path, pools: Sequence[PoolOfSubnets] = ()
    ) -> None:
        self._tag = tag
        self._pools = pools
        self._forwarding_record = forwarding_record  # there while we have forwarding turned on
        self._guarded: dict[int, tuple[str, ...]] = {}  # by IP version
        self._listening: tuple[str, ...] = ()  # to routers, though this host forwards
        self._read_forwarding()
        self._route = NetlinkSocket.open(ROUTE)
        self._firewall = Firewall(tag)
        self._fading: set[str] = set()  # links that should go with their namespaces

    def close(self) -> None:
        self._route.close()
        self._firewall.close()

    # Bridges

    def restore(self, networks: Sequence[Network]) -> dict[str, int]:
        """Indexes of the bridges, by network id: of user networks, and of the default one where
        it was in use. Ports published before a crash stay so."""
        known = links.interfaces()
        names = {network.bridge for network in networks}
        if any(each.startswith(("br-", "pyc-")) and each not in names for each in known):
            # Killed in the middle of a removal, or the records were taken away.
            for stray in set(links.bridges_called(table_name(self._tag))) - names:
                log.info("removing bridge %s, which belongs to no network", stray)
                links.delete_link(self._route, stray)
        found = {}
        for network in networks:
            if network.predefined and network.bridge not in known:
                continue
            try:
                found[network.id] = links.create_bridge(self._route, bridge_of(network, self._tag))
            except (OSError, Failure) as error:
                log.error("network %s has no bridge: %s", network.name, error)
        published = self._firewall.published()
        if found or self._firewall.present():
            up = [network for network in networks if network.id in found]
            self._load_firewall(up, published)
        else:
            self._firewall.open_passages()  # a saved ruleset may have brought rules of ours back
        return found

    def create(
        self,
        asked: Sequence[tuple[int, AddressPool]],
        own: Sequence[Subnet],
        make: Callable[[tuple[AddressPool, ...]], Network],
    ) -> tuple[Network, int]:
        """The network that `make` made (and stored) for the subnets that `asked` asks for or
        that are free; a crash after that leaves a network whose bridge comes with the next
        start."""
        with links.namespace_lock():
            pools = tuple(
                free_pool(version, each, own, self._tag, self._pools) for version, each in asked
            )
            network = make(pools)
            return network, links.create_bridge(self._route, bridge_of(network, self._tag))

    def create_on_parent(
        self,
        asked: Sequence[tuple[int, AddressPool]],
        own: Sequence[Subnet],
        make: Callable[[tuple[AddressPool, ...]], Network],
        trial: Place,
        *,
        shared: bool,
    ) -> Network:
        """A macvlan or ipvlan network. Its subnet may be the host's own, as it usually is. `trial`
        is made and taken away again, so that what the kernel refuses is said now. `shared`: other
        networks are on the same parent."""
        with links.namespace_lock():
            pools = []
            for version, each in asked:
                if each.subnet:
                    refuse_overlap(each.subnet, own)
                    pools.append(complete_pool(each))
                else:
                    pools.append(free_pool(version, each, own, self._tag, self._pools))
            try:
                with open("/proc/thread-self/ns/net", "rb") as here:
                    self._attach(trial, here.fileno())
                detach(self._route, trial.endpoint.ifname)
                return make(tuple(pools))
            except BaseException:
                if not shared:
                    self.drop_parent(trial.parent)
                raise

    def drop_parent(self, name: str) -> None:
        """No network is on it any more."""
        drop_parent(self._route, name, table_name(self._tag))

    def _attach(self, place: Place, namespace: int) -> None:
        if place.kind is not None:
            ensure_parent(self._route, place.parent, table_name(self._tag))
        attach(self._route, place, namespace)

    def delete(self, bridges: Sequence[str]) -> None:
        # A namespace that has ended keeps its links while the kernel still sends the last words
        # of its TCP connections, for minutes if nobody answers. Usually they go in milliseconds.
        self._fading |= set(links.ports_of(self._route, bridges))
        for name in bridges:
            links.delete_link(self._route, name)

    def sweep(self) -> None:
        """What has not gone by itself of the links of deleted bridges goes now."""
        for name in self._fading:
            links.delete_link(self._route, name)
        self._fading.clear()

    # Firewall

    def wall(self, networks: Sequence[Network]) -> None:
        """The firewall's sets hold the bridges of `networks`, and no others."""
        if not self._firewall.loaded:
            self._load_firewall(networks, ())
            return
        self._switch_forwarding_on(networks)
        tables = make_tables(
            self._tag, networks, guarded=self._guarded, loaded=self._firewall.loaded
        )
        self._firewall.update_sets(tables)

    def _load_firewall(
        self, networks: Sequence[Network], published: Sequence[PublishedPort]
    ) -> None:
        self._switch_forwarding_on(networks)
        self._firewall.load(make_tables(self._tag, networks, published, self._guarded))

    def check_firewall(self) -> None:
        if self._firewall.put_back():
            log.warning("another program removed the engine's firewall table; it is back")
        self._firewall.open_passages()

    def keep_published(self, owned: set[PublishedPort]) -> None:
        """Those that nobody owns go."""
        if self._firewall.loaded:
            left = [port for port in self._firewall.published() if port not in owned]
            self._firewall.publish(gone=[port for port in left if not port.shared])
            spots = {port.spot for port in left if port.shared}
            self._firewall.share(
                {spot: [port for port in owned if port.spot == spot] for spot in spots}, owned
            )

    def unpublish(self, ports: Sequence[PublishedPort]) -> None:
        self._firewall.publish(gone=ports)

    def share(
        self, wanted: Mapping[Spot, Sequence[PublishedPort]], there: Collection[PublishedPort]
    ) -> None:
        self._firewall.share(wanted, there)

    def has_connections(self, ports: Sequence[PublishedPort]) -> bool:
        return self._firewall.has_connections(ports)

    # Containers

    def join(
        self,
        places: Sequence[Place],
        sockets: ContainerSockets,
        out: WaysOut,
        published: Sequence[PublishedPort],
        *,
        named: bool = True,
    ) -> None:
        """`named`: the way to the name service is made too; False where it is there already."""
        for place in places:
            self._attach(place, sockets.namespace)
            if place.endpoint.sysctls:
                set_inside(sockets.namespace, place.endpoint.sysctls)
        configure(sockets.route, [place.endpoint for place in places], out=out)
        if named and sockets.dns_ports:
            redirect_names(sockets.netfilter, *sockets.dns_ports)
        self._firewall.publish(published)

    def join_again(
        self,
        places: Sequence[Place],
        sockets: ContainerSockets,
        out: WaysOut,
        published: Sequence[PublishedPort],
    ) -> None:
        """What is there stays as it is."""
        for place in places:
            if place.kind is not None:  # of a link that is gone
                ensure_parent(self._route, place.parent, table_name(self._tag))
        made = [
            place.endpoint
            for place in places
            if repair(self._route, place, sockets.namespace, sockets.route)
            or not is_configured(sockets.route, place.endpoint.ifname)
        ]
        for endpoint in made:
            set_inside(sockets.namespace, endpoint.sysctls)
        if made:
            configure(sockets.route, made, out=out)
        if sockets.dns_ports:
            redirect_names(sockets.netfilter, *sockets.dns_ports, anew=True)
        self._firewall.publish(published)

    def disconnect(
        self,
        gone: Endpoint,
        sockets: ContainerSockets,
        after: Mapping[str, Endpoint],
        published: Sequence[PublishedPort],
        lost: Sequence[PublishedPort],
    ) -> None:
        if gone.ifname:
            if gone.host_ifname:
                detach(self._route, gone.host_ifname)
            else:
                detach(sockets.route, gone.ifname)
            route_by(sockets.route, ways_out(after.values()))
        self._firewall.publish(published, gone=lost)

    # Forwarding

    def _switch_forwarding_on(self, networks: Sequence[Network]) -> None:
        """This host becomes a router for its containers only: between the interfaces that it has
        now, nothing is forwarded, as before."""
        for version in (4, 6):
            wanted = version == 4 or any(network.pool(6) for network in networks)
            if not wanted or links.forwarding(version):
                continue
            ours = {network.bridge for network in networks}
            others = sorted(set(links.interfaces()) - ours - {"lo"})
            self._guarded = {**self._guarded, version: tuple(others)}
            if version == 6:
                self._listening = links.listening_to_routers()
            record = {str(v): list(names) for v, names in self._guarded.items()}
            write_record(self._forwarding_record, {**record, "listening": list(self._listening)})
            for name in self._listening if version == 6 else ():
                links.listen_to_routers(name, though_forwarding=True)
            links.set_forwarding(version, on=True)

    def _read_forwarding(self) -> None:
        try:
            document = read_record(self._forwarding_record)
        except FileNotFoundError:
            return
        except ValueError as error:
            log.error("%s can't be read: %s", self._forwarding_record, error)
            return
        if isinstance(document, list):  # of a version without IPv6
            document = {"4": document}
        if isinstance(document, dict):
            names = {key: tuple(map(str, value)) for key, value in document.items()}
            self._listening = names.pop("listening", ())
            self._guarded = {int(key): each for key, each in names.items()}

    def retire(self, bridges: Iterable[str]) -> None:
        """Nothing of ours is left afterwards."""
        self.delete(sorted(set(bridges) & set(links.interfaces())))
        self.sweep()
        self._firewall.remove()
        if self._forwarding_record.exists():
            # Another daemon of this engine that came later counts on it.
            if not self._firewall.others():
                for version in self._guarded:
                    links.set_forwarding(version, on=False)
                for name in self._listening:
                    links.listen_to_routers(name, though_forwarding=False)
            self._forwarding_record.unlink()
            sync_directory(self._forwarding_record.parent)
            self._guarded, self._listening = {}, ()
