"""Networks: create and remove them, and give containers their place. Owned by the event loop."""

import asyncio
import contextlib
import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.errors import Conflict, Failure, Forbidden, InvalidRequest, NotFound
from engine.ids import new_id, short_id
from engine.kernel.libc import told
from engine.networks import links
from engine.networks.borrowed import NetworkSockets
from engine.networks.catalog import Catalog
from engine.networks.dns_server import NameService, View
from engine.networks.endpoint import Place, bridges_are_filtered, ways_out
from engine.networks.firewall_rules import (
    PublishedPort,
    talks_within,
)
from engine.networks.host_network import bridge_of, free_pool
from engine.networks.host_thread import HostThread
from engine.networks.ipam import mac_of, wanted_pools
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_IFNAME_PREFIX,
    OPTION_MTU,
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
)
from engine.networks.names import Directory
from engine.networks.netlink_socket import ROUTE, NetlinkError, NetlinkSocket
from engine.networks.parents import DRIVERS, kind_of, parent_name, parent_of
from engine.networks.placing import (
    check_wishes,
    choose_addresses,
    dns_names,
    interface_sysctls,
    next_ifname,
)
from engine.networks.publishing import Publishing, alone, targets
from engine.networks.request import check_spec, refuse_second_use, taken_from, unused_pools
from engine.settings import NetworkDefaults

log = logging.getLogger(__name__)

TAG = re.compile(r"[a-z0-9]{1,8}")
MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
NO_DNS_OPTIONS = DnsOptions()
FORWARDING_RECORD = "forwarding"  # there while this engine has turned forwarding on


class Networks:
    def __init__(
        self, name: str, catalog: Catalog, host: HostThread, defaults: NetworkDefaults
    ) -> None:
        self._tag = name
        self._defaults = defaults
        self._catalog = catalog
        self._host = host
        self._publishing = Publishing(host)
        self._allocated: dict[str, dict[str, Endpoint]] = {}  # container id -> network id -> place
        self._joined: dict[str, dict[str, Endpoint]] = {}
        self._dns: dict[str, DnsOptions] = {}
        self._changing = asyncio.Lock()  # one network is created or removed at a time
        self._directory = Directory()
        self._names = NameService(self._directory, self._view, self._publishing.fittest)

    # Open and close

    @classmethod
    async def open(
        cls, root: Path, *, name: str, defaults: NetworkDefaults | None = None
    ) -> "Networks":
        """Reads the stored networks and puts their bridges and rules back where they are missing.

        `name` is this daemon's tag (8 hex digits): bridges and the table carry it. Call `settle`
        once every living container has been given to `adopt`.
        """
        if not TAG.fullmatch(name):
            raise ValueError(f"the tag of a daemon is up to 8 letters and digits, not {name!r}")
        catalog = Catalog(root)
        catalog.load()
        defaults = defaults or NetworkDefaults()
        host = await HostThread.open(name, root / FORWARDING_RECORD, defaults.pools)
        networks = cls(name, catalog, host, defaults)
        try:
            await networks._restore()
        except BaseException:
            await networks.close()
            raise
        return networks

    async def _restore(self) -> None:
        for predefined in PREDEFINED:
            if self._catalog.named(predefined) is None:
                network = self._predefined(predefined)
                self._catalog.write(network)
                self._catalog.keep(network)
        await self._host.restore([network for network in self._catalog if network.bridge])

    def _predefined(self, name: str) -> Network:
        if name != "bridge":
            driver = "null" if name == "none" else name
            return Network(new_id(), name, driver, time.time_ns(), (), "")
        pool = free_pool(4, AddressPool(), self._catalog.subnets(), self._tag, self._defaults.pools)
        bridge = f"pyc-{self._tag}"
        options = {OPTION_DEFAULT_BRIDGE: "true", OPTION_BRIDGE_NAME: bridge}
        if self._defaults.mtu:
            options[OPTION_MTU] = str(self._defaults.mtu)
        return Network(new_id(), name, "bridge", time.time_ns(), (pool,), bridge, options=options)

    async def settle(self) -> None:
        """Everything that lives has been adopted: published ports nobody owns go."""
        self._names.release()
        await self._host.run(self._host.network.keep_published, self._publishing.all())

    async def close(self) -> None:
        """The daemon stops; containers live on with addresses and published ports."""
        await self._names.close()
        self._publishing.close()
        await self._host.close()

    async def retire(self) -> None:
        """No container is left: bridges, the table and sysctls of ours go. `close` comes next.

        The predefined networks are made anew at the next start: nobody refers to them any more.
        """
        await self._host.retire([network.bridge for network in self._catalog if network.bridge])
        for network in self._catalog:
            if network.predefined:
                self._catalog.forget(network.id)

    # Networks

    def get(self, reference: str) -> Network:
        """By id, name, or unique id prefix. Raises NotFound."""
        return self._catalog.find(reference)

    def list(self) -> tuple[Network, ...]:
        return tuple(self._catalog)

    async def create(self, spec: NetworkSpec) -> Network:
        """Raises Conflict where the name is taken, Forbidden where the subnet is."""
        check_spec(spec)
        async with self._changing:
            if self._catalog.named(spec.name) is not None:
                raise Conflict(f"network with name {spec.name} already exists")
            if spec.config_only:
                return self._create_template(spec)
            if spec.config_from:
                spec = taken_from(self._template(spec.config_from), spec)
                check_spec(replace(spec, config_from=""))
            asked = wanted_pools(spec.pools, ipv4=spec.enable_ipv4, ipv6=spec.enable_ipv6)
            network_id = new_id()
            refuse_second_use(spec, network_id, self._catalog)
            try:
                network, index = await self._create(spec, network_id, asked)
            except BaseException as error:
                self._catalog.forget(network_id)
                if isinstance(error, OSError):
                    raise Failure(f"cannot create network {spec.name}: {told(error)}") from error
                raise
            self._catalog.keep(network)
            if index:
                self._host.bridges[network.id] = index
            await self._host.wall(self._catalog)
        subnets = ", ".join(pool.subnet for pool in network.pools)
        log.info("network %s (%s) created: %s", network.name, network.id, subnets)
        return network

    def _template(self, name: str) -> Network:
        if (found := self._catalog.named(name)) is None:
            raise NotFound(f'configuration network "{name}" not found')
        return found

    def _create_template(self, spec: NetworkSpec) -> Network:
        """What others are made from; it is on no host, and no container joins it."""
        network = Network(
            id=new_id(),
            name=spec.name,
            driver="null",
            created=time.time_ns(),
            pools=spec.pools,
            bridge="",
            ipam_options=spec.ipam_options,
            enable_ipv4=spec.enable_ipv4,
            enable_ipv6=spec.enable_ipv6,
            options=dict(spec.options),
            labels=dict(spec.labels),
            config_only=True,
        )
        self._catalog.write(network)
        self._catalog.keep(network)
        return network

    async def _create(
        self, spec: NetworkSpec, network_id: str, asked: Sequence[tuple[int, AddressPool]]
    ) -> tuple[Network, int]:
        """With the index of its bridge; 0 where it has none."""

        def make(pools: tuple[AddressPool, ...]) -> Network:
            return self._make(spec, network_id, pools)

        if spec.driver not in DRIVERS:
            return await self._host.run(
                self._host.network.create, asked, self._catalog.subnets(), make
            )
        parent = parent_of(spec.driver, spec.options, network_id)
        trial = Place(
            Endpoint("", network_id, spec.name, "", "", ifname=f"pyc{short_id(network_id)}"),
            parent=parent,
            kind=kind_of(spec.driver, spec.options),
        )
        try:
            made = await self._host.run(
                self._host.network.create_on_parent,
                asked,
                self._catalog.subnets(),
                make,
                trial,
                shared=bool(self._on_parent(parent)),
            )
        except Failure as error:
            raise Failure(f"cannot create network {spec.name}: {error}") from error
        return made, 0

    def _on_parent(self, parent: str) -> tuple[Network, ...]:
        on_parents = (network for network in self._catalog if network.driver in DRIVERS)
        return tuple(network for network in on_parents if parent_name(network) == parent)

    def _make(self, spec: NetworkSpec, network_id: str, pools: tuple[AddressPool, ...]) -> Network:
        """The network, stored."""
        driver = spec.driver if spec.driver in DRIVERS else "bridge"
        generated = f"br-{short_id(network_id)}"
        network = Network(
            id=network_id,
            name=spec.name,
            driver=driver,
            created=time.time_ns(),
            pools=pools,
            bridge=spec.options.get(OPTION_BRIDGE_NAME, generated) if driver == "bridge" else "",
            unused=unused_pools(spec),
            ipam_options=spec.ipam_options,
            internal=spec.internal,
            attachable=spec.attachable,
            enable_ipv4=spec.enable_ipv4,
            enable_ipv6=spec.enable_ipv6,
            options=dict(spec.options),
            labels=dict(spec.labels),
            config_from=spec.config_from,
        )
        self._catalog.write(network)
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
            if network.config_only and any(n.config_from == network.name for n in self._catalog):
                raise Forbidden(
                    "error while removing network: "
                    f'configuration network "{network.name}" is in use'
                )
            # Nobody gets a place in it from here on.
            self._catalog.withdraw(network.id)
            self._host.bridges.pop(network.id, None)
            await self._host.wall(self._catalog)
            on_parent = network.driver in DRIVERS and not network.bridge
            if on_parent and not self._on_parent(parent_name(network)):
                await self._host.run(self._host.network.drop_parent, parent_name(network))
            self._catalog.forget(network.id)
        if network.bridge:
            self._host.delete_soon([network.bridge])
        log.info("network %s (%s) removed", network.name, network.id)
        return network

    async def prune(self, wanted: Callable[[Network], bool]) -> tuple[Network, ...]:
        """Removes the unused networks of which `wanted` is true; returns them."""
        removed: list[Network] = []
        for network in self.list():
            kept = network.predefined or network.config_only
            if not kept and not self._holders(network.id) and wanted(network):
                with contextlib.suppress(NotFound, Forbidden):  # changed while others were removed
                    removed.append(await self.remove(network.id))
        return tuple(removed)

    def _holders(self, network_id: str) -> tuple[Endpoint, ...]:
        return tuple(each[network_id] for each in self._allocated.values() if network_id in each)

    # Places of containers

    def check_wishes(
        self, reference: str, addresses: Mapping[int, str], aliases: Sequence[str]
    ) -> None:
        """Raises InvalidRequest where this network can't give such addresses or names to anybody.
        One that isn't there yet may be able to."""
        with contextlib.suppress(NotFound):
            check_wishes(self.get(reference), addresses, aliases)

    def allocate(self, network: Network, request: EndpointRequest) -> Endpoint:
        """A place in `network`, held until `leave` or `disconnect`. Raises Forbidden where the
        container has one or the address is taken, Failure where no address is left."""
        places = self._allocated.get(request.container_id, {})
        if network.id not in self._catalog:
            raise NotFound(f"network {network.name} not found")
        if network.config_only:
            raise Forbidden("cannot create endpoint on configuration-only network")
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
        if request.mac_address and network.driver == "ipvlan":
            raise InvalidRequest("ipvlan interfaces do not support custom mac address assignment")
        network = self._with_bridge(network) if network.bridge else network
        prefix = network.options.get(OPTION_IFNAME_PREFIX, "eth")
        ifname = request.ifname or next_ifname(places.values(), prefix)
        if any(each.ifname == ifname for each in places.values()):
            raise InvalidRequest(f"the container has an interface {ifname} already")
        spaces, addresses = choose_addresses(network, request, self._catalog.spaces[network.id])
        self._catalog.spaces[network.id] = spaces
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
            # A link of ipvlan has its parent's.
            mac_address=""
            if network.driver == "ipvlan"
            else request.mac_address.lower() or mac_of(first),
            ipv4_address=addresses.get(4, ""),
            ipv4_prefix=prefixes.get(4, 0),
            direct=network.is_routed_by_link and not network.internal,
            gateway=network.gateway(4),
            ipv6_address=addresses.get(6, ""),
            ipv6_prefix=prefixes.get(6, 0),
            ipv6_gateway=network.gateway(6),
            dns_names=dns_names(
                request.container_id,
                request.container_name,
                aliases=request.aliases,
                hostname=request.hostname,
            ),
            links=dict(request.links),
            gateway_priority=request.gateway_priority,
            link_local=request.link_local,
            sysctls=interface_sysctls(request, ifname, ipv6=6 in addresses),
        )

    def _with_bridge(self, network: Network) -> Network:
        """The default network gets its bridge with its first container, and another subnet if
        its own was taken meanwhile. A few packed messages: it may be done here and now."""
        if network.id in self._host.bridges:
            return network
        with links.namespace_lock(), NetlinkSocket.open(ROUTE) as route:
            subnet = ipaddress.ip_network(network.pools[0].subnet)
            if network.predefined and any(
                subnet.overlaps(each.network) for each in links.host_routes()
            ):
                pool = free_pool(
                    4, AddressPool(), self._catalog.subnets(), self._tag, self._defaults.pools
                )
                network = replace(network, pools=(pool,))
                self._catalog.write(network)
                self._catalog.keep(network)
            try:
                index = links.create_bridge(route, bridge_of(network, self._tag))
            except NetlinkError as error:
                raise Failure(str(error)) from error
        self._host.bridges[network.id] = index
        return network

    def reserve_ports(
        self, container_id: str, wanted: Sequence[PortRequest], endpoints: Sequence[Endpoint] = ()
    ) -> tuple[PortBinding, ...]:
        """All of `wanted` or none; held until `leave`. What a port without an address is bound to
        depends on the networks by which the container of `endpoints` is reached."""
        return self._publishing.reserve(container_id, wanted, endpoints, self._catalog)

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
        with self._host.borrowing(sockets) as borrowed:
            linked = [each for each in endpoints if each.ifname]
            await self._host.wall(self._catalog)
            places = [self._place(each) for each in linked]
            published = targets(container_id, linked, ports, self._catalog)
            out = ways_out(linked)
            asked = borrowed.hand_over_dns()
            join = borrowed.used_up_by(self._host.network.join)
            joined = self._host.begin(join, places, borrowed, out, alone(published))
            try:
                await self._serve_names(container_id, *asked)
            finally:
                await self._host.end(joined)
            self._remember(container_id, endpoints, ports, published, dns)
            await self._publishing.spread(published)

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
        missing. Names are answered from `settle` on."""
        self._names.hold()
        with self._host.borrowing(sockets) as borrowed:
            known = [each for each in endpoints if each.network_id in self._catalog]
            for lost in set(endpoints_ids(endpoints)) - set(endpoints_ids(known)):
                log.error("container %s: the network of endpoint %s is gone", container_id, lost)
            linked = [each for each in known if each.ifname]
            for endpoint in linked:
                try:
                    if (network := self._catalog[endpoint.network_id]).bridge:
                        self._with_bridge(network)
                    self._catalog.take(endpoint)
                except (Forbidden, InvalidRequest, Failure) as error:
                    log.error("container %s: %s: %s", container_id, endpoint.ifname, error)
            self._allocated[container_id] = {each.network_id: each for each in known}
            self._publishing.hold_again(container_id, ports)
            await self._host.wall(self._catalog)
            bridged = [
                each
                for each in linked
                if not each.host_ifname or each.network_id in self._host.bridges
            ]
            places = [self._place(each) for each in bridged]
            published = targets(container_id, linked, ports, self._catalog)
            await self._host.run(
                self._host.network.join_again, places, borrowed, ways_out(linked), alone(published)
            )
            self._remember(container_id, known, ports, published, dns)
            await self._publishing.spread(published)
            await self._serve_names(container_id, *borrowed.hand_over_dns())

    async def connect(self, container_id: str, endpoint: Endpoint, sockets: NetworkSockets) -> None:
        """One more network for a container that runs."""
        with self._host.borrowing(sockets) as borrowed:
            await self._host.wall(self._catalog)
            before = self._joined.get(container_id, {})
            after = {**before, endpoint.network_id: endpoint}
            ports = self._publishing.bindings(container_id)
            dns = self._dns.get(container_id, NO_DNS_OPTIONS)
            published = targets(container_id, after.values(), ports, self._catalog)
            out = ways_out(after.values())
            places = [self._place(endpoint)] if endpoint.ifname else []
            named = not self._names.serves(container_id)
            await self._host.run(
                self._host.network.join, places, borrowed, out, alone(published), named=named
            )
            old = self._publishing.of(container_id)
            self._remember(container_id, after.values(), ports, published, dns)
            await self._publishing.spread((*old, *published))
            await self._serve_names(container_id, *borrowed.hand_over_dns())

    async def disconnect(self, container_id: str, network_id: str, sockets: NetworkSockets) -> None:
        """Raises Failure where the container isn't connected."""
        with self._host.borrowing(sockets) as borrowed:
            before = self._joined.get(container_id, {})
            # Perhaps not joined: `connect` failed half-way.
            gone = self._allocated.get(container_id, {}).get(network_id)
            if gone is None:
                name = self.get(network_id).name
                raise Failure(f"container {container_id} is not connected to network {name}")
            after = {key: value for key, value in before.items() if key != network_id}
            old = self._publishing.of(container_id)
            ports = self._publishing.bindings(container_id)
            new = targets(container_id, after.values(), ports, self._catalog)
            lost = [port for port in old if port not in new]
            self._directory.remove(gone)
            await self._host.run(
                self._host.network.disconnect, gone, borrowed, after, alone(new), alone(lost)
            )
            self._joined[container_id] = after
            self._publishing.remember(container_id, after.values(), ports, new)
            await self._publishing.spread((*lost, *new))
            self._release(container_id, gone)

    async def leave(self, container_id: str) -> None:
        """The container is down: its addresses, ports and names are free. Idempotent.

        Its links go with its namespace; deleting them would take 10 ms and more each."""
        for endpoint in self._joined.pop(container_id, {}).values():
            self._directory.remove(endpoint)
        self._dns.pop(container_id, None)
        await self._names.stop(container_id)
        try:
            await self._publishing.leave(container_id)
        finally:
            for endpoint in list(self._allocated.get(container_id, {}).values()):
                self._release(container_id, endpoint)

    async def regard(self, container_id: str, standing: Standing) -> None:
        """From now on names and shared ports lead to it as to one that is so fit."""
        if container_id in self._allocated:
            await self._publishing.regard(container_id, standing)

    def is_relieved(self, container_id: str) -> bool:
        """Whether others have taken over every shared port of it."""
        return self._publishing.is_relieved(container_id)

    async def has_connections(self, container_id: str) -> bool:
        return await self._publishing.has_connections(container_id)

    async def rename(
        self, container_id: str, name: str, names: Mapping[str, tuple[str, ...]]
    ) -> tuple[Endpoint, ...]:
        """The container's endpoints under its new name; it is found by `names`, which are those
        of each network by its id, at once."""
        places = self._allocated.get(container_id, {})
        for network_id, old in list(places.items()):
            places[network_id] = replace(old, container_name=name, dns_names=names[network_id])
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
        self._publishing.remember(
            container_id, self._joined[container_id].values(), ports, published
        )
        self._dns[container_id] = dns
        for endpoint in self._joined[container_id].values():
            self._directory.add(endpoint)

    def _release(self, container_id: str, endpoint: Endpoint) -> None:
        places = self._allocated.get(container_id, {})
        places.pop(endpoint.network_id, None)
        if not places:
            self._allocated.pop(container_id, None)
        self._catalog.release(endpoint)

    def _place(self, endpoint: Endpoint) -> Place:
        network = self._catalog[endpoint.network_id]
        if not network.bridge:
            kind = kind_of(network.driver, network.options)
            return Place(endpoint, mtu=network.mtu, parent=parent_name(network), kind=kind)
        return Place(
            endpoint,
            bridge_index=self._host.bridges[network.id],
            mtu=network.mtu,
            isolated=not talks_within(network),
            # Found out here: in the thread each look at a file waits for the event loop's turn.
            hairpin=bridges_are_filtered(),
        )

    async def _serve_names(self, container_id: str, udp: int, tcp: int) -> None:
        """Takes over the descriptors; -1: there are none."""
        if udp < 0:
            return
        if self._names.serves(container_id):
            os.close(udp)
            os.close(tcp)
            return
        await self._names.serve(container_id, udp, tcp)

    def _view(self, container_id: str) -> View | None:
        places = self._joined.get(container_id)
        if places is None:
            return None
        named = [e for e in places.values() if self._catalog[e.network_id].serves_names]
        return View(
            endpoints=tuple(named),
            servers=self._dns.get(container_id, NO_DNS_OPTIONS).servers,
            forwards=any(each.leads_out(v) for each in places.values() for v in (4, 6)),
        )


def endpoints_ids(endpoints: Iterable[Endpoint]) -> Iterable[str]:
    return (endpoint.endpoint_id for endpoint in endpoints)
