"""Pure: networks and published ports -> an nftables table per IP version, as value and as text.

All that changes from day to day (bridges, ports) are elements of sets and maps; the rules stay
as they are, so publishing a port is one element whatever their number. `text` is nft's own syntax.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from engine.networks.model import (
    OPTION_ICC,
    OPTION_MASQUERADE,
    GatewayMode,
    Network,
    version_of,
)


class Family(Enum):
    """nft's name, its number, and the IP version."""

    IPV4 = ("ip", 2, 4)
    IPV6 = ("ip6", 10, 6)

    @property
    def label(self) -> str:
        return self.value[0]

    @property
    def number(self) -> int:
        return self.value[1]

    @property
    def version(self) -> int:
        return self.value[2]


class Type(Enum):
    """Types of set keys: nft's name, its number (only for who lists the rules), bytes,
    whether it stands for an interval."""

    ADDRESS = ("ipv4_addr", 7, 4, False)
    SUBNET = ("ipv4_addr", 7, 4, True)  # "172.18.0.0/16": all addresses in it
    ADDRESS6 = ("ipv6_addr", 8, 16, False)
    SUBNET6 = ("ipv6_addr", 8, 16, True)
    PROTOCOL = ("inet_proto", 12, 1, False)
    SERVICE = ("inet_service", 13, 2, False)
    MARK = ("mark", 19, 4, False)  # nft's word for a plain number
    INTERFACE = ("ifname", 41, 16, False)

    @property
    def label(self) -> str:
        return self.value[0]


Element = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Set:
    name: str
    key: tuple[Type, ...]
    elements: frozenset[Element] = frozenset()

    @property
    def is_interval(self) -> bool:
        return any(kind.value[3] for kind in self.key)


@dataclass(frozen=True, slots=True)
class Map:
    name: str
    key: tuple[Type, ...]
    value: tuple[Type, ...]
    elements: Mapping[Element, Element]


# What a rule may say; each class is one statement of nft.


@dataclass(frozen=True, slots=True)
class InterfaceIs:
    direction: str  # "iifname", "oifname"
    name: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceIn:
    direction: str
    set_name: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class SourceIn:
    """`ip saddr @set`, a set of subnets."""

    set_name: str
    family: Family = Family.IPV4


@dataclass(frozen=True, slots=True)
class DestinationIn:
    """`ip daddr . protocol . destination port` is an element."""

    set_name: str
    family: Family = Family.IPV4


@dataclass(frozen=True, slots=True)
class InterfacesIn:
    """`iifname . oifname` is an element."""

    set_name: str


@dataclass(frozen=True, slots=True)
class AddressIn:
    side: str  # "saddr", "daddr"
    network: str
    prefix: int  # all of the address in IPv6


@dataclass(frozen=True, slots=True)
class DestinationIsLocal: ...


@dataclass(frozen=True, slots=True)
class DestinationPort:
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class ProtocolIs:
    name: str  # a key of PROTOCOL_NUMBERS


class Neighbour(Enum):
    """How IPv6 finds the hardware address of a neighbour: without it nothing else goes."""

    SOLICIT = 135
    ADVERT = 136


class State(Enum):
    INVALID = 1
    ESTABLISHED = 2
    RELATED = 4


@dataclass(frozen=True, slots=True)
class StateIn:
    states: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class WasRedirected:
    """`ct status dnat`."""


@dataclass(frozen=True, slots=True)
class DnatFrom:
    map_name: str
    by_address: bool  # the key starts with the destination address
    family: Family = Family.IPV4
    spread: bool = False  # the key ends with a number, by lot for each connection


@dataclass(frozen=True, slots=True)
class DnatTo:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Masquerade: ...


@dataclass(frozen=True, slots=True)
class Counter:
    """Shows those who list the rules how much came by here."""


class Verdict(Enum):
    DROP = 0
    ACCEPT = 1


Statement = (
    InterfaceIs
    | InterfaceIn
    | InterfacesIn
    | SourceIn
    | DestinationIn
    | AddressIn
    | DestinationIsLocal
    | DestinationPort
    | ProtocolIs
    | Neighbour
    | StateIn
    | WasRedirected
    | DnatFrom
    | DnatTo
    | Masquerade
    | Counter
    | Verdict
)
Rule = tuple[Statement, ...]


class Hook(Enum):
    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


@dataclass(frozen=True, slots=True)
class Chain:
    name: str
    type: str  # "filter", "nat"
    hook: Hook
    priority: int
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class TableName:
    """A table is known by both."""

    family: Family
    name: str


@dataclass(frozen=True, slots=True)
class Table:
    name: TableName
    sets: tuple[Set, ...] = ()
    maps: tuple[Map, ...] = ()
    chains: tuple[Chain, ...] = ()


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


RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100  # priorities, as nft names them
IIF, OIF = "iifname", "oifname"
PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
WILDCARD, WILDCARD6 = "0.0.0.0", "::"
# Of a shared port; up to 6 containers and many larger numbers get just the same part of them.
SLOTS = 60


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


def text(table: Table) -> str:
    """`table` in nft's syntax."""
    lines = [f"table {table.name.family.label} {table.name.name} {{"]
    for each in table.sets:
        lines += [f"\tset {each.name} {{", f"\t\ttype {_types(each.key)}"]
        lines += ["\t\tflags interval"] if each.is_interval else []
        lines += _elements(_element(element) for element in each.elements)
    for each_map in table.maps:
        lines += [f"\tmap {each_map.name} {{"]
        lines += [f"\t\ttype {_types(each_map.key)} : {_types(each_map.value)}"]
        lines += _elements(
            f"{_element(key)} : {_element(value)}" for key, value in each_map.elements.items()
        )
    for chain in table.chains:
        hook = f"{chain.hook.name.lower()} priority {chain.priority}"
        lines += [f"\tchain {chain.name} {{"]
        lines += [f"\t\ttype {chain.type} hook {hook}; policy accept;"]
        lines += [f"\t\t{' '.join(statement_text(part) for part in rule)}" for rule in chain.rules]
        lines += ["\t}"]
    return "\n".join([*lines, "}", ""])


def _types(types: Sequence[Type]) -> str:
    return " . ".join(each.label for each in types)


def _element(element: Element) -> str:
    return " . ".join(str(part) for part in element)


def _elements(elements: Iterable[str]) -> list[str]:
    listed = ", ".join(sorted(elements))
    return [f"\t\telements = {{ {listed} }}", "\t}"] if listed else ["\t}"]


def statement_text(statement: Statement) -> str:
    match statement:
        case InterfaceIs(direction, name, negated):
            return f'{direction} {"!= " if negated else ""}"{name}"'
        case InterfaceIn(direction, set_name, negated):
            return f"{direction} {'!= ' if negated else ''}@{set_name}"
        case SourceIn(set_name, family):
            return f"{family.label} saddr @{set_name}"
        case DestinationIn(set_name, family):
            return f"{family.label} daddr . meta l4proto . th dport @{set_name}"
        case ProtocolIs(name):
            return f"meta l4proto {name}"
        case Neighbour():
            return f"icmpv6 type nd-neighbor-{statement.name.lower()}"
        case InterfacesIn(set_name):
            return f"iifname . oifname @{set_name}"
        case AddressIn(side, network, 128):
            return f"ip6 {side} {network}"
        case AddressIn(side, network, 32):
            return f"ip {side} {network}"
        case AddressIn(side, network, prefix):
            return f"ip {side} {network}/{prefix}"
        case DestinationIsLocal():
            return "fib daddr type local"
        case DestinationPort(protocol, port):
            return f"{protocol} dport {port}"
        case StateIn(states):
            return f"ct state {','.join(state.name.lower() for state in states)}"
        case WasRedirected():
            return "ct status dnat"
        case DnatFrom(map_name, by_address, family, spread):
            address = f"{family.label} daddr . " if by_address else ""
            lot = f" . numgen random mod {SLOTS}" if spread else ""
            key = f"{address}meta l4proto . th dport{lot}"
            return f"dnat {family.label} to {key} map @{map_name}"
        case DnatTo(address, port):
            return f"dnat to {address}:{port}"
        case Masquerade():
            return "masquerade"
        case Counter():
            return "counter"
        case Verdict():
            return statement.name.lower()
