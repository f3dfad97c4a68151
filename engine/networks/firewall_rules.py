"""Pure: networks and published ports -> an nftables table per IP version.

All that changes from day to day (bridges, ports) are elements of sets and maps; the rules stay
as they are, so publishing a port is one element whatever their number.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from engine.networks.model import (
    OPTION_ICC,
    OPTION_MASQUERADE,
    GatewayMode,
    Network,
    version_of,
)
from engine.networks.nft import (
    DSTNAT,
    FILTER,
    IIF,
    OIF,
    RAW,
    SLOTS,
    SRCNAT,
    AddressIn,
    Chain,
    DestinationIn,
    DestinationIsLocal,
    DestinationPort,
    DnatFrom,
    DnatTo,
    Element,
    Family,
    Hook,
    InterfaceIn,
    InterfaceIs,
    InterfacesIn,
    Map,
    Masquerade,
    Neighbour,
    ProtocolIs,
    Rule,
    Set,
    SourceIn,
    State,
    StateIn,
    Table,
    TableName,
    Type,
    Verdict,
    WasRedirected,
)


@dataclass(frozen=True, slots=True)
class PublishedPort:
    protocol: str
    host_ip: str  # "0.0.0.0", "::" = all of the host's addresses of that version
    host_port: int  # 0: open at `address` itself
    address: str
    port: int
    shared: bool = False

    @property
    def version(self) -> int:
        return version_of(self.address)

    @property
    def spot(self) -> "Spot":
        return Spot(self.protocol, self.host_ip, self.host_port)


@dataclass(frozen=True, slots=True)
class Spot:
    """A port of the host."""

    protocol: str
    host_ip: str
    host_port: int

    @property
    def family(self) -> Family:
        return Family.IPV4 if version_of(self.host_ip) == 4 else Family.IPV6

    @property
    def is_everywhere(self) -> bool:
        return self.host_ip in (WILDCARD, WILDCARD6)

    @property
    def key(self) -> Element:
        """In the maps."""
        service = (self.protocol, self.host_port)
        return service if self.is_everywhere else (self.host_ip, *service)


WILDCARD, WILDCARD6 = "0.0.0.0", "::"


def table_name(tag: str) -> str:
    return f"pycompose-{tag}"


def make_tables(
    tag: str,
    networks: Iterable[Network],
    ports: Iterable[PublishedPort] = (),
    guarded: Mapping[int, Iterable[str]] = MappingProxyType({}),
    *,
    loaded: Collection[Family] = (),
) -> tuple[Table, ...]:
    """One of IPv4; one of IPv6 where a network has it, or where one is `loaded` already.
    `guarded`: per version the interfaces between which nothing was forwarded before this engine
    turned forwarding on; that stays so."""
    networks, ports = list(networks), list(ports)
    dual = Family.IPV6 in loaded or any(each.bridge and each.pool(6) for each in networks)
    return tuple(
        _make_table(TableName(family, table_name(tag)), networks, ports, guarded)
        for family in ((Family.IPV4, Family.IPV6) if dual else (Family.IPV4,))
    )


def _make_table(
    name: TableName,
    networks: Iterable[Network],
    ports: Iterable[PublishedPort],
    guarded: Mapping[int, Iterable[str]],
) -> Table:
    version = name.family.version
    pools = {n.id: pool for n in networks if n.bridge and (pool := n.pool(version))}
    bridged = [network for network in networks if network.id in pools]
    ports = [port for port in ports if port.version == version]
    modes = {n.id: n.gateway_mode(version) for n in bridged}
    subnet = Type.SUBNET if version == 4 else Type.SUBNET6

    def in_mode(mode: GatewayMode) -> frozenset[Element]:
        return _names(n for n in bridged if not n.internal and modes[n.id] is mode)

    return Table(
        name,
        sets=(
            Set("bridges", (Type.INTERFACE,), _names(bridged)),
            Set("subnets", (subnet,), frozenset((pool.subnet,) for pool in pools.values())),
            Set("internal", (Type.INTERFACE,), _names(n for n in bridged if n.internal)),
            Set(
                "masqueraded",
                (Type.INTERFACE,),
                _names(n for n in bridged if masqueraded(n, version)),
            ),
            Set(
                "within",
                (Type.INTERFACE, Type.INTERFACE),
                frozenset((n.bridge, n.bridge) for n in bridged if talks_within(n)),
            ),
            Set(
                "trusted",
                (Type.INTERFACE, Type.INTERFACE),
                frozenset((each, n.bridge) for n in bridged for each in n.trusted_interfaces),
            ),
            Set("routed", (Type.INTERFACE,), in_mode(GatewayMode.ROUTED)),
            Set("unprotected", (Type.INTERFACE,), in_mode(GatewayMode.UNPROTECTED)),
            Set(
                "guarded",
                (Type.INTERFACE,),
                frozenset((each,) for each in guarded.get(version, ())),
            ),
            open_ports(name.family, ports),
        ),
        maps=port_maps(name.family, ports),
        chains=CHAINS[name.family],
    )


def _names(networks: Iterable[Network]) -> frozenset[Element]:
    return frozenset((network.bridge,) for network in networks)


def masqueraded(network: Network, version: int) -> bool:
    wanted = network.flag(OPTION_MASQUERADE, default=True)
    translated = network.gateway_mode(version) in (GatewayMode.NAT, GatewayMode.UNPROTECTED)
    return wanted and translated and not network.internal


def talks_within(network: Network) -> bool:
    return network.flag(OPTION_ICC, default=True)


def _address_type(family: Family) -> Type:
    return Type.ADDRESS if family is Family.IPV4 else Type.ADDRESS6


def open_ports(family: Family, ports: Iterable[PublishedPort]) -> Set:
    """What is reached at the containers' own addresses."""
    key = (_address_type(family), Type.PROTOCOL, Type.SERVICE)
    elements = (
        (port.address, port.protocol, port.port)
        for port in ports
        if not port.host_port and port.version == family.version
    )
    return Set("opened", key, frozenset(elements))


def port_maps(family: Family, ports: Iterable[PublishedPort]) -> tuple[Map, ...]:
    """Of ports with one owner, then of shared ones; each time first those of one host address."""
    single: dict[bool, dict[Element, Element]] = {True: {}, False: {}}
    spread: dict[bool, dict[Element, Element]] = {True: {}, False: {}}
    sharing: dict[Spot, list[PublishedPort]] = {}
    for port in ports:
        if not port.host_port or port.version != family.version:
            continue
        spot = port.spot
        if port.shared:
            sharing.setdefault(spot, []).append(port)
        else:
            single[spot.is_everywhere][spot.key] = (port.address, port.port)
    for spot, members in sharing.items():
        spread[spot.is_everywhere] |= slots(spot, members)
    address = _address_type(family)
    service = (Type.PROTOCOL, Type.SERVICE)
    target = (address, Type.SERVICE)
    return (
        Map("published_at", (address, *service), target, single[False]),
        Map("published", service, target, single[True]),
        Map("shared_at", (address, *service, Type.MARK), target, spread[False]),
        Map("shared", (*service, Type.MARK), target, spread[True]),
    )


def slots(spot: Spot, members: Sequence[PublishedPort]) -> dict[Element, Element]:
    """The elements that lead connections to `spot` to each of `members` equally often."""
    if not members:
        return {}
    targets = [(each.address, each.port) for each in members]
    return {(*spot.key, number): targets[number % len(targets)] for number in range(SLOTS)}


def _to_published(family: Family) -> tuple[Rule, ...]:
    """A binding to one address wins over one to all of them."""
    return tuple(
        (DestinationIsLocal(), DnatFrom(name, by_address, family, spread))
        for name, by_address, spread in (
            ("published_at", True, False),
            ("shared_at", True, True),
            ("published", False, False),
            ("shared", False, True),
        )
    )


def _to_itself(family: Family) -> tuple[Rule, ...]:
    """The kernel drops what goes from ::1 to a container: the engine carries it (`carrier`)."""
    own = AddressIn("daddr", "::1", 128)
    return ((own, Verdict.ACCEPT),) if family is Family.IPV6 else ()


_FROM_ELSEWHERE = InterfaceIs(IIF, "lo", negated=True)


# route_localnet lets the bridges carry 127/8, which nobody but this host may use
# (CVE-2020-8558). Before connection tracking: answers to redirected packets don't match.
# IPv6 has no such setting: the kernel itself drops ::1 that comes by a link.
_LOOPBACK_GUARD = Chain(
    "loopback_guard",
    "filter",
    Hook.PREROUTING,
    RAW,
    (
        (_FROM_ELSEWHERE, AddressIn("daddr", "127.0.0.0", 8), Verdict.DROP),
        (_FROM_ELSEWHERE, AddressIn("saddr", "127.0.0.0", 8), Verdict.DROP),
    ),
)


# This host at 127.0.0.1, to a published port.
_FROM_LOOPBACK: Rule = (
    AddressIn("saddr", "127.0.0.0", 8),
    InterfaceIn(OIF, "bridges"),
    Masquerade(),
)


def _postrouting(family: Family) -> Chain:
    return Chain(
        "postrouting",
        "nat",
        Hook.POSTROUTING,
        SRCNAT,
        (
            *((_FROM_LOOPBACK,) if family is Family.IPV4 else ()),
            (
                InterfaceIn(IIF, "masqueraded"),
                InterfaceIn(OIF, "bridges", negated=True),
                Masquerade(),
            ),
            # Hairpin: a container that uses a published port, perhaps its own. The answer has to
            # come back this way instead of directly. By address, for where br_netfilter is at
            # work the interface it came by is not known here.
            (
                SourceIn("subnets", family),
                InterfaceIn(OIF, "bridges"),
                WasRedirected(),
                Masquerade(),
            ),
        ),
    )


def _forward(family: Family) -> Chain:
    icmp = "icmp" if family is Family.IPV4 else "ipv6-icmp"
    return Chain(
        "forward",
        "filter",
        Hook.FORWARD,
        FILTER,
        (
            (InterfacesIn("within"), Verdict.ACCEPT),
            (InterfaceIn(IIF, "internal"), Verdict.DROP),
            (InterfaceIn(OIF, "internal"), Verdict.DROP),
            (
                InterfaceIn(OIF, "bridges"),
                StateIn((State.ESTABLISHED, State.RELATED)),
                Verdict.ACCEPT,
            ),
            (InterfaceIn(OIF, "bridges"), WasRedirected(), Verdict.ACCEPT),
            # Routed networks are reached under their own addresses, like any other host that
            # answers to a ping and has some ports open.
            (InterfaceIn(OIF, "routed"), ProtocolIs(icmp), Verdict.ACCEPT),
            (InterfaceIn(OIF, "routed"), DestinationIn("opened", family), Verdict.ACCEPT),
            (InterfacesIn("trusted"), DestinationIn("opened", family), Verdict.ACCEPT),
            (
                InterfaceIn(IIF, "bridges", negated=True),
                InterfaceIn(OIF, "unprotected"),
                Verdict.ACCEPT,
            ),
            # Other networks, and neighbours that route to a container's own address.
            (InterfaceIn(OIF, "bridges"), Verdict.DROP),
            # What connection tracking doesn't know leaves with a container's private address.
            (InterfaceIn(IIF, "bridges"), StateIn((State.INVALID,)), Verdict.DROP),
            (InterfaceIn(IIF, "guarded"), InterfaceIn(OIF, "guarded"), Verdict.DROP),
        ),
    )


def _input(family: Family) -> Chain:
    """An internal network has no way to the host either, whatever routes a container makes; the
    host may still call its containers."""
    neighbours: tuple[Rule, ...] = tuple(
        (InterfaceIn(IIF, "internal"), kind, Verdict.ACCEPT) for kind in Neighbour
    )
    return Chain(
        "input",
        "filter",
        Hook.INPUT,
        FILTER,
        (
            (
                InterfaceIn(IIF, "internal"),
                StateIn((State.ESTABLISHED, State.RELATED)),
                Verdict.ACCEPT,
            ),
            *(neighbours if family is Family.IPV6 else ()),
            (InterfaceIn(IIF, "internal"), Verdict.DROP),
        ),
    )


def _chains(family: Family) -> tuple[Chain, ...]:
    return (
        *((_LOOPBACK_GUARD,) if family is Family.IPV4 else ()),
        Chain("prerouting", "nat", Hook.PREROUTING, DSTNAT, _to_published(family)),
        Chain("output", "nat", Hook.OUTPUT, DSTNAT, (*_to_itself(family), *_to_published(family))),
        _postrouting(family),
        _forward(family),
        _input(family),
    )


CHAINS: Mapping[Family, tuple[Chain, ...]] = {family: _chains(family) for family in Family}


def name_service_table(udp_port: int, tcp_port: int) -> Table:
    """Inside a container's namespace: 127.0.0.11:53 leads to the engine's sockets, which can't
    be bound to port 53 themselves (a container may want it for all addresses)."""
    server = AddressIn("daddr", "127.0.0.11", 32)
    rules: tuple[Rule, ...] = (
        (server, DestinationPort("udp", 53), DnatTo("127.0.0.11", udp_port)),
        (server, DestinationPort("tcp", 53), DnatTo("127.0.0.11", tcp_port)),
    )
    chain = Chain("output", "nat", Hook.OUTPUT, DSTNAT, rules)
    return Table(TableName(Family.IPV4, "pycompose-dns"), chains=(chain,))
