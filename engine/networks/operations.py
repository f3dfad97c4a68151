"""Networks: create and remove them, and give containers their place. Owned by the event loop.

What the kernel has to do (RTNL may make it wait) happens in one thread, in order; that thread
decides nothing and changes nothing here.
"""

import asyncio
import contextlib
import dataclasses
import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, Protocol, TypedDict, TypeVar

from engine.errors import Conflict, Failure, Forbidden, InvalidRequest, NotFound
from engine.ids import new_id, short_id
from engine.networks import links
from engine.networks.dns_server import NameService, View
from engine.networks.endpoint import Place, port_of, ways_out
from engine.networks.firewall import RemovalWatch
from engine.networks.firewall_rules import PublishedPort, Spot, talks_within
from engine.networks.host_network import HostNetwork, bridge_of, by_version, free_pool
from engine.networks.ipam import AddressSpace, Subnet, mac_of, wanted_pools
from engine.networks.model import (
    MACVLAN_MODES,
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_IFNAME_PREFIX,
    OPTION_MACVLAN_MODE,
    OPTION_MTU,
    OPTION_PARENT,
    PREDEFINED,
    AddressPool,
    DnsOptions,
    Endpoint,
    EndpointRequest,
    Network,
    NetworkSpec,
    PortBinding,
    PortRequest,
    Standing,
    version_of,
)
from engine.networks.names import Directory
from engine.networks.netlink_socket import ROUTE, NetlinkError, NetlinkSocket
from engine.networks.placing import choose_addresses, dns_names, interface_sysctls, next_ifname
from engine.networks.port_wishes import decide
from engine.networks.ports import HostPorts
from engine.networks.request import check_spec, checked_options
from engine.networks.stored import network_document, parse_network
from engine.records import read_record, remove_torn, sync_directory, write_record

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

TAG = re.compile(r"[a-z0-9]{1,8}")
MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
NO_DNS_OPTIONS = DnsOptions()
FADING = 2.0  # seconds that the kernel has for the links of a removed network
FORWARDING_RECORD = "forwarding"  # there while this engine has turned forwarding on


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


class Networks:
    def __init__(
        self, root: Path, name: str, thread: ThreadPoolExecutor, host: HostNetwork
    ) -> None:
        self._root = root
        self._tag = name
        self._networks: dict[str, Network] = {}
        self._spaces: dict[str, dict[int, AddressSpace]] = {}  # by network id and IP version
        self._bridges: dict[str, int] = {}  # network id -> index of the interface, where it is up
        self._behind_firewall: frozenset[str] = frozenset()  # ids of the networks in its sets
        self._allocated: dict[str, dict[str, Endpoint]] = {}  # container id -> network id -> place
        self._joined: dict[str, dict[str, Endpoint]] = {}
        self._ports: dict[str, tuple[PortBinding, ...]] = {}
        self._published: dict[str, tuple[PublishedPort, ...]] = {}
        self._dns: dict[str, DnsOptions] = {}
        self._standings: dict[str, Standing] = {}  # of those that aren't ready
        self._changing = asyncio.Lock()  # one network is created or removed at a time
        self._host_ports = HostPorts()
        self._directory = Directory()
        self._names = NameService(self._directory, self._view, self.fittest)
        self._watch = RemovalWatch(name)
        self._thread = thread
        self._host = host  # used in the thread only
        self._sweeping: asyncio.TimerHandle | None = None

    # Open and close

    @classmethod
    async def open(cls, root: Path, *, name: str) -> "Networks":
        """Reads the stored networks and puts their bridges and rules back where they are missing.

        `name` is this daemon's tag (8 hex digits): bridges and the table carry it. Call `settle`
        once every living container has been given to `adopt`.
        """
        if not TAG.fullmatch(name):
            raise ValueError(f"the tag of a daemon is up to 8 letters and digits, not {name!r}")
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_torn(root)
        thread = ThreadPoolExecutor(1, "networks")
        opened = thread.submit(HostNetwork, name, root / FORWARDING_RECORD)
        networks = cls(root, name, thread, await asyncio.wrap_future(opened))
        try:
            await networks._restore()
        except BaseException:
            await networks.close()
            raise
        return networks

    async def _restore(self) -> None:
        for path in sorted(self._root.glob("*.json")):
            try:
                network = parse_network(read_record(path))
            except (ValueError, OSError) as error:
                log.error("network record %s can't be read and is left alone: %s", path.name, error)
                continue
            self._keep(network)
        for predefined in PREDEFINED:
            if not any(network.name == predefined for network in self._networks.values()):
                network = self._predefined(predefined)
                self._write(network)
                self._keep(network)
        bridged = [network for network in self._networks.values() if network.bridge]
        self._bridges = await self._run(self._host.restore, bridged)
        self._behind_firewall = frozenset(self._bridges)
        asyncio.get_running_loop().add_reader(self._watch, self._look_after_firewall)

    def _look_after_firewall(self) -> None:
        """A reload of the host's firewall must not open the networks (CVE-2025-54410)."""
        if self._watch.removed():
            self._thread.submit(self._host.check_firewall).add_done_callback(_log_failure)

    def _predefined(self, name: str) -> Network:
        if name != "bridge":
            driver = "null" if name == "none" else name
            return Network(new_id(), name, driver, time.time_ns(), (), "")
        pool = free_pool(4, AddressPool(), self._subnets(), self._tag)
        bridge = f"pyc-{self._tag}"
        options = {OPTION_DEFAULT_BRIDGE: "true", OPTION_BRIDGE_NAME: bridge}
        return Network(new_id(), name, "bridge", time.time_ns(), (pool,), bridge, options=options)

    async def settle(self) -> None:
        """Everything that lives has been adopted: published ports nobody owns go."""
        owned = {port for ports in self._published.values() for port in ports}
        await self._run(self._host.keep_published, owned)

    async def close(self) -> None:
        """The daemon stops; containers live on with addresses and published ports."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await self._run(self._host.sweep)
        asyncio.get_running_loop().remove_reader(self._watch)
        self._watch.close()
        await self._names.close()
        self._host_ports.close()
        await self._run(self._host.close)
        self._thread.shutdown()

    async def retire(self) -> None:
        """No container is left: bridges, the table and sysctls of ours go. `close` comes next.

        The predefined networks are made anew at the next start: nobody refers to them any more.
        """
        names = [network.bridge for network in self._networks.values() if network.bridge]
        self._bridges.clear()
        self._behind_firewall = frozenset()
        await self._run(self._host.retire, names)
        for network in self._networks.values():
            if network.predefined:
                self._forget(network.id)

    # Networks

    def get(self, reference: str) -> Network:
        """By id, name, or unique id prefix. Raises NotFound."""
        if found := self._networks.get(reference):
            return found
        for network in self._networks.values():
            if network.name == reference:
                return network
        matching = [
            n for key, n in self._networks.items() if reference and key.startswith(reference)
        ]
        if len(matching) > 1:
            raise InvalidRequest(
                f"network {reference} is ambiguous ({len(matching)} matches found)"
            )
        if not matching:
            raise NotFound(f"network {reference} not found")
        return matching[0]

    def list(self) -> tuple[Network, ...]:
        return tuple(self._networks.values())

    def endpoints(self, network_id: str) -> tuple[Endpoint, ...]:
        """Places in use in a network: what its inspect shows under Containers."""
        return tuple(places[network_id] for places in self._joined.values() if network_id in places)

    async def create(self, spec: NetworkSpec) -> Network:
        """Raises Conflict where the name is taken, Forbidden where the subnet is."""
        check_spec(spec)
        async with self._changing:
            if any(network.name == spec.name for network in self._networks.values()):
                raise Conflict(f"network with name {spec.name} already exists")
            asked = wanted_pools(spec.pools, ipv4=spec.enable_ipv4, ipv6=spec.enable_ipv6)
            network_id = new_id()
            try:
                network, index = await self._create(spec, network_id, asked)
            except BaseException as error:
                self._forget(network_id)
                if isinstance(error, OSError):
                    raise Failure(f"cannot create network {spec.name}: {error}") from error
                raise
            self._keep(network)
            if index:
                self._bridges[network.id] = index
            await self._wall()
        subnets = ", ".join(pool.subnet for pool in network.pools)
        log.info("network %s (%s) created: %s", network.name, network.id, subnets)
        return network

    async def _create(
        self, spec: NetworkSpec, network_id: str, asked: Sequence[tuple[int, AddressPool]]
    ) -> tuple[Network, int]:
        """With the index of its bridge; 0 where it has none."""

        def make(pools: tuple[AddressPool, ...]) -> Network:
            return self._make(spec, network_id, pools)

        if spec.driver != "macvlan":
            return await self._run(self._host.create, asked, self._subnets(), make)
        trial = Place(
            Endpoint("", network_id, spec.name, "", "", ifname=f"pyc{short_id(network_id)}"),
            **_macvlan(spec.options),
        )
        try:
            made = await self._run(self._host.create_on_parent, asked, self._subnets(), make, trial)
        except Failure as error:
            raise Failure(f"cannot create network {spec.name}: {error}") from error
        return made, 0

    def _make(self, spec: NetworkSpec, network_id: str, pools: tuple[AddressPool, ...]) -> Network:
        """The network, stored."""
        options = checked_options(spec.options)
        driver = "macvlan" if spec.driver == "macvlan" else "bridge"
        generated = f"br-{short_id(network_id)}"
        network = Network(
            id=network_id,
            name=spec.name,
            driver=driver,
            created=time.time_ns(),
            pools=pools,
            bridge=options.get(OPTION_BRIDGE_NAME, generated) if driver == "bridge" else "",
            internal=spec.internal,
            attachable=spec.attachable,
            enable_ipv4=spec.enable_ipv4,
            enable_ipv6=spec.enable_ipv6,
            options=options,
            labels=dict(spec.labels),
        )
        self._write(network)
        return network

    async def remove(self, reference: str) -> Network:
        """Raises Forbidden for a predefined network or one with endpoints."""
        async with self._changing:
            network = self.get(reference)
            if network.predefined:
                raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
            if active := self._holders(network.id):
                listed = ", ".join(
                    f'name:"{each.container_name}" id:"{short_id(each.endpoint_id)}"'
                    for each in active
                )
                raise Forbidden(
                    f"error while removing network: network {network.name} has active endpoints"
                    f" ({listed})"
                )
            # Nobody gets a place in it from here on.
            del self._networks[network.id], self._spaces[network.id]
            self._bridges.pop(network.id, None)
            await self._wall()
            if network.bridge:
                await self._run(self._host.delete, [network.bridge])
            self._forget(network.id)
        self._sweep_later()
        log.info("network %s (%s) removed", network.name, network.id)
        return network

    def _sweep_later(self) -> None:
        """Once for all networks that are removed together, when their links have had their time."""
        if self._sweeping is not None:
            self._sweeping.cancel()

        def sweep() -> None:
            self._thread.submit(self._host.sweep).add_done_callback(_log_failure)

        self._sweeping = asyncio.get_running_loop().call_later(FADING, sweep)

    async def prune(self, wanted: Callable[[Network], bool]) -> tuple[Network, ...]:
        """Removes the unused networks of which `wanted` is true; returns them."""
        removed: list[Network] = []
        for network in self.list():
            if not network.predefined and not self._holders(network.id) and wanted(network):
                with contextlib.suppress(NotFound, Forbidden):  # changed while others were removed
                    removed.append(await self.remove(network.id))
        return tuple(removed)

    def _holders(self, network_id: str) -> tuple[Endpoint, ...]:
        return tuple(each[network_id] for each in self._allocated.values() if network_id in each)

    # Places of containers

    def allocate(self, network: Network, request: EndpointRequest) -> Endpoint:
        """A place in `network`, held until `leave` or `disconnect`. Raises Forbidden where the
        container has one or the address is taken, Failure where no address is left."""
        places = self._allocated.get(request.container_id, {})
        if network.id not in self._networks:
            raise NotFound(f"network {network.name} not found")
        if network.id in places:
            raise Forbidden(
                f"endpoint with name {request.container_name} already exists in network"
                f" {network.name}"
            )
        endpoint_id = new_id()
        if not network.has_links:
            endpoint = Endpoint(
                endpoint_id, network.id, network.name, request.container_id, request.container_name
            )
        else:
            endpoint = self._place_with_link(network, request, endpoint_id, places)
        self._allocated.setdefault(request.container_id, {})[network.id] = endpoint
        return endpoint

    def _place_with_link(
        self,
        network: Network,
        request: EndpointRequest,
        endpoint_id: str,
        places: dict[str, Endpoint],
    ) -> Endpoint:
        if request.mac_address and not MAC.fullmatch(request.mac_address):
            raise InvalidRequest(f"invalid MAC address {request.mac_address!r}")
        network = self._with_bridge(network) if network.bridge else network
        prefix = network.options.get(OPTION_IFNAME_PREFIX, "eth")
        ifname = request.ifname or next_ifname(places.values(), prefix)
        if any(each.ifname == ifname for each in places.values()):
            raise InvalidRequest(f"the container has an interface {ifname} already")
        spaces, addresses = choose_addresses(network, request, self._spaces[network.id])
        self._spaces[network.id] = spaces
        prefixes = {version: space.subnet.prefixlen for version, space in spaces.items()}
        first = next(iter(addresses.values()))
        return Endpoint(
            endpoint_id=endpoint_id,
            network_id=network.id,
            network_name=network.name,
            container_id=request.container_id,
            container_name=request.container_name,
            ifname=ifname,
            host_ifname=f"veth{endpoint_id[:10]}" if network.bridge else "",
            mac_address=request.mac_address.lower() or mac_of(first),
            ipv4_address=addresses.get(4, ""),
            ipv4_prefix=prefixes.get(4, 0),
            gateway=network.gateway(4),
            ipv6_address=addresses.get(6, ""),
            ipv6_prefix=prefixes.get(6, 0),
            ipv6_gateway=network.gateway(6),
            dns_names=dns_names(request),
            links=dict(request.links),
            gateway_priority=request.gateway_priority,
            link_local=request.link_local,
            sysctls=interface_sysctls(request, ifname, ipv6=6 in addresses),
        )

    def _with_bridge(self, network: Network) -> Network:
        """The default network gets its bridge with its first container, and another subnet if
        its own was taken meanwhile. A few packed messages: it may be done here and now."""
        if network.id in self._bridges:
            return network
        with links.namespace_lock(), NetlinkSocket.open(ROUTE) as route:
            subnet = ipaddress.ip_network(network.pools[0].subnet)
            if network.predefined and any(
                subnet.overlaps(each.network) for each in links.host_routes()
            ):
                pool = free_pool(4, AddressPool(), self._subnets(), self._tag)
                network = dataclasses.replace(network, pools=(pool,))
                self._write(network)
                self._keep(network)
            try:
                index = links.create_bridge(route, bridge_of(network, self._tag))
            except NetlinkError as error:
                raise Failure(str(error)) from error
        self._bridges[network.id] = index
        return network

    def reserve_ports(
        self, container_id: str, wanted: Sequence[PortRequest], endpoints: Sequence[Endpoint] = ()
    ) -> tuple[PortBinding, ...]:
        """All of `wanted` or none; held until `leave`. What a port without an address is bound to
        depends on the networks by which the container of `endpoints` is reached."""
        by_host = [each for each in endpoints if each.host_ifname]
        if endpoints and not by_host:
            return ()  # macvlan: nothing goes by way of this host; Docker too ignores the ports
        networks = {
            version: self._networks[way.network_id]
            for version, way in ways_out(by_host).by_version()
            if way is not None
        }
        wishes = decide(wanted, networks)
        return (*self._host_ports.reserve(container_id, wishes.on_host), *wishes.at_home)

    async def join(
        self,
        container_id: str,
        endpoints: Sequence[Endpoint],
        sockets: NetworkSockets,
        ports: Sequence[PortBinding],
        *,
        dns: DnsOptions = NO_DNS_OPTIONS,
    ) -> None:
        """The container's network is ready when this returns: links, routes, names, ports."""
        with self._owning(sockets) as owned:
            linked = [each for each in endpoints if each.ifname]
            await self._wall()
            places = [self._place(each) for each in linked]
            published = self._targets(container_id, linked, ports)
            out = ways_out(linked)
            await asyncio.gather(
                self._run(self._host.join, places, owned, out, _alone(published)),
                self._serve_names(container_id, owned),
            )
            self._remember(container_id, endpoints, ports, published, dns)
            await self._spread(published)

    async def adopt(
        self,
        container_id: str,
        endpoints: Sequence[Endpoint],
        sockets: NetworkSockets,
        ports: Sequence[PortBinding],
        *,
        dns: DnsOptions = NO_DNS_OPTIONS,
    ) -> None:
        """After a restart of the daemon: takes the container's place over, puts back what is
        missing."""
        with self._owning(sockets) as owned:
            known = [each for each in endpoints if each.network_id in self._networks]
            for lost in set(endpoints_ids(endpoints)) - set(endpoints_ids(known)):
                log.error("container %s: the network of endpoint %s is gone", container_id, lost)
            linked = [each for each in known if each.ifname]
            for endpoint in linked:
                spaces = self._spaces[endpoint.network_id]
                try:
                    if (network := self._networks[endpoint.network_id]).bridge:
                        self._with_bridge(network)
                    for version, space in list(spaces.items()):
                        if address := endpoint.address(version):
                            spaces[version] = space.take(address)
                except (Forbidden, InvalidRequest, Failure) as error:
                    log.error("container %s: %s: %s", container_id, endpoint.ifname, error)
            self._allocated[container_id] = {each.network_id: each for each in known}
            for complaint in self._host_ports.hold_again(container_id, ports):
                log.warning("container %s: cannot hold port %s", container_id, complaint)
            await self._wall()
            bridged = [
                each for each in linked if not each.host_ifname or each.network_id in self._bridges
            ]
            places = [self._place(each) for each in bridged]
            published = self._targets(container_id, linked, ports)
            await self._run(
                self._host.join_again, places, owned, ways_out(linked), _alone(published)
            )
            self._remember(container_id, known, ports, published, dns)
            await self._spread(published)
            await self._serve_names(container_id, owned)

    async def connect(self, container_id: str, endpoint: Endpoint, sockets: NetworkSockets) -> None:
        """One more network for a container that runs."""
        with self._owning(sockets) as owned:
            await self._wall()
            before = self._joined.get(container_id, {})
            after = {**before, endpoint.network_id: endpoint}
            ports = self._ports.get(container_id, ())
            dns = self._dns.get(container_id, NO_DNS_OPTIONS)
            published = self._targets(container_id, after.values(), ports)
            out = ways_out(after.values())
            places = [self._place(endpoint)] if endpoint.ifname else []
            named = not self._names.serves(container_id)
            await self._run(self._host.join, places, owned, out, _alone(published), named=named)
            old = self._published.get(container_id, ())
            self._remember(container_id, after.values(), ports, published, dns)
            await self._spread((*old, *published))
            await self._serve_names(container_id, owned)

    async def disconnect(self, container_id: str, network_id: str, sockets: NetworkSockets) -> None:
        """Raises Failure where the container isn't connected."""
        with self._owning(sockets) as owned:
            before = self._joined.get(container_id, {})
            # Perhaps not joined: `connect` failed half-way.
            gone = self._allocated.get(container_id, {}).get(network_id)
            if gone is None:
                name = self.get(network_id).name
                raise Failure(f"container {container_id} is not connected to network {name}")
            after = {key: value for key, value in before.items() if key != network_id}
            old = self._published.get(container_id, ())
            new = self._targets(container_id, after.values(), self._ports.get(container_id, ()))
            lost = [port for port in old if port not in new]
            self._directory.remove(gone)
            await self._run(self._host.disconnect, gone, owned, after, _alone(new), _alone(lost))
            self._joined[container_id] = after
            self._published[container_id] = new
            await self._spread((*lost, *new))
            self._release(container_id, gone)

    async def leave(self, container_id: str) -> None:
        """The container is down: its addresses, ports and names are free. Idempotent.

        Its links go with its namespace; deleting them would take 10 ms and more each."""
        for endpoint in self._joined.pop(container_id, {}).values():
            self._directory.remove(endpoint)
        self._dns.pop(container_id, None)
        await self._names.stop(container_id)
        published = self._published.pop(container_id, ())
        try:
            if published:
                await self._run(self._host.unpublish, _alone(published))
                await self._spread(published)
        finally:
            self._standings.pop(container_id, None)
            self._ports.pop(container_id, None)
            self._host_ports.release(container_id)
            for endpoint in list(self._allocated.get(container_id, {}).values()):
                self._release(container_id, endpoint)

    async def regard(self, container_id: str, standing: Standing) -> None:
        """From now on names and shared ports lead to it as to one that is so fit."""
        known = container_id in self._allocated
        if not known or standing is self._standings.get(container_id, Standing.READY):
            return
        self._standings[container_id] = standing
        try:
            await self._spread(self._published.get(container_id, ()))
        except Failure as error:
            # It is told of what is so already, or must be: nothing is undone for this.
            log.error(
                "container %s: its shared ports stay where they lead: %s", container_id, error
            )

    def fittest(self, found: Sequence[Endpoint]) -> Sequence[Endpoint]:
        """Those of the best standing among them; nobody is left with nothing."""
        if len(found) < 2 or not self._standings:
            return found
        best = min(self._standing(each.container_id) for each in found)
        return [each for each in found if self._standing(each.container_id) == best]

    def _standing(self, container_id: str) -> int:
        return self._standings.get(container_id, Standing.READY).value

    async def _spread(self, changed: Iterable[PublishedPort]) -> None:
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
        await self._run(self._host.share, wanted)

    async def rename(self, container_id: str, name: str) -> tuple[Endpoint, ...]:
        """The container's endpoints under its new name; it is found by that name at once."""
        places = self._allocated.get(container_id, {})
        for network_id, old in list(places.items()):
            names = tuple(name if each == old.container_name else each for each in old.dns_names)
            places[network_id] = dataclasses.replace(old, container_name=name, dns_names=names)
            if network_id in self._joined.get(container_id, {}):
                self._directory.remove(old)
                self._directory.add(places[network_id])
                self._joined[container_id][network_id] = places[network_id]
        return tuple(places.values())

    # Parts

    def _remember(
        self,
        container_id: str,
        endpoints: Iterable[Endpoint],
        ports: Sequence[PortBinding],
        published: tuple[PublishedPort, ...],
        dns: DnsOptions,
    ) -> None:
        self._joined[container_id] = {each.network_id: each for each in endpoints}
        self._ports[container_id] = tuple(ports)
        self._published[container_id] = published
        self._dns[container_id] = dns
        for endpoint in self._joined[container_id].values():
            self._directory.add(endpoint)

    def _release(self, container_id: str, endpoint: Endpoint) -> None:
        places = self._allocated.get(container_id, {})
        places.pop(endpoint.network_id, None)
        if not places:
            self._allocated.pop(container_id, None)
        spaces = self._spaces.get(endpoint.network_id, {})
        for version, space in list(spaces.items()):
            if address := endpoint.address(version):
                spaces[version] = space.release(address)

    def _place(self, endpoint: Endpoint) -> Place:
        network = self._networks[endpoint.network_id]
        mtu = int(network.options.get(OPTION_MTU, "0"))
        if not network.bridge:
            return Place(endpoint, mtu=mtu, **_macvlan(network.options))
        return Place(
            endpoint,
            bridge_index=self._bridges[network.id],
            mtu=mtu,
            isolated=not talks_within(network),
        )

    def _targets(
        self, container_id: str, endpoints: Iterable[Endpoint], ports: Sequence[PortBinding]
    ) -> tuple[PublishedPort, ...]:
        """Where the published ports lead: the container's address in the network of its gateway."""
        targets = {}
        by_host = [each for each in endpoints if each.host_ifname]
        for version, way in ways_out(by_host).by_version():
            if way is not None:
                targets[version] = way.address(version)
        found = tuple(
            PublishedPort(
                each.protocol,
                each.host_ip,
                each.host_port,
                targets[version_of(each.host_ip)],
                each.container_port,
                each.shared,
            )
            for each in ports
            if version_of(each.host_ip) in targets
        )
        if len(found) < len(ports):
            log.warning("container %s: internal networks publish no ports", container_id)
        return found

    @contextlib.contextmanager
    def _owning(self, sockets: NetworkSockets) -> Iterator["_Owned"]:
        owned = _Owned(sockets)
        try:
            yield owned
        finally:
            self._thread.submit(owned.close)  # nobody needs to wait for it

    async def _serve_names(self, container_id: str, sockets: "_Owned") -> None:
        if sockets.dns_udp >= 0 and not self._names.serves(container_id):
            await self._names.serve(container_id, *sockets.hand_over_dns())

    def _view(self, container_id: str) -> View | None:
        places = self._joined.get(container_id)
        if places is None:
            return None
        named = [e for e in places.values() if self._networks[e.network_id].serves_names]
        return View(
            endpoints=tuple(named),
            servers=self._dns.get(container_id, NO_DNS_OPTIONS).servers,
            forwards=any(each.gateway or each.ipv6_gateway for each in places.values()),
        )

    async def _wall(self) -> None:
        """The firewall knows every bridge that is up."""
        present = frozenset(self._bridges)
        if present != self._behind_firewall:
            walled = [self._networks[each] for each in present]
            await self._run(self._host.wall, walled)
            self._behind_firewall = present

    def _subnets(self) -> tuple[Subnet, ...]:
        return tuple(space.subnet for each in self._spaces.values() for space in each.values())

    def _keep(self, network: Network) -> None:
        self._networks[network.id] = network
        if network.pools:
            spaces = {version: AddressSpace.of(pool) for version, pool in by_version(network)}
            self._spaces[network.id] = spaces

    def _write(self, network: Network) -> None:
        write_record(self._root / f"{network.id}.json", network_document(network))

    def _forget(self, network_id: str) -> None:
        (self._root / f"{network_id}.json").unlink(missing_ok=True)
        sync_directory(self._root)

    async def _run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """`function`'s result, from the networks' thread."""
        call = self._thread.submit(function, *arguments, **named)
        try:
            return await asyncio.wrap_future(call)
        except NetlinkError as error:
            raise Failure(str(error)) from error


class _Owned:
    """A container's descriptors while something is done with them."""

    def __init__(self, sockets: NetworkSockets) -> None:
        self.namespace = sockets.namespace
        self.route = NetlinkSocket.adopt(sockets.route)
        self.netfilter = NetlinkSocket.adopt(sockets.netfilter)
        self.dns_udp = sockets.dns_udp
        self.dns_tcp = sockets.dns_tcp
        self.dns_ports: tuple[int, int] | None = None
        if sockets.dns_udp >= 0:
            self.dns_ports = (port_of(sockets.dns_udp), port_of(sockets.dns_tcp))

    def hand_over_dns(self) -> tuple[int, int]:
        handed = (self.dns_udp, self.dns_tcp)
        self.dns_udp = self.dns_tcp = -1
        return handed

    def close(self) -> None:
        """All but those that were handed over. Blocking: nftables makes the last user of a socket
        wait for what it has deleted."""
        self.route.close()
        self.netfilter.close()
        for descriptor in (self.namespace, self.dns_udp, self.dns_tcp):
            if descriptor >= 0:
                os.close(descriptor)


def _log_failure(call: "Future[None]") -> None:
    if error := call.exception():
        log.error("cannot look after the host's network: %s", error)


def endpoints_ids(endpoints: Iterable[Endpoint]) -> Iterable[str]:
    return (endpoint.endpoint_id for endpoint in endpoints)


def _macvlan(options: Mapping[str, str]) -> "_OnParent":
    mode = MACVLAN_MODES[options.get(OPTION_MACVLAN_MODE, "bridge")]
    return {"parent": options[OPTION_PARENT], "macvlan_mode": mode}


class _OnParent(TypedDict):
    parent: str
    macvlan_mode: int


def _alone(ports: Iterable[PublishedPort]) -> tuple[PublishedPort, ...]:
    return tuple(port for port in ports if not port.shared)
