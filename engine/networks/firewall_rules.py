"""Pure: networks and published ports -> one nftables table, as a value and as text.

All that changes from day to day (bridges, ports) are elements of sets and maps; the rules stay
as they are, so publishing a port is one element whatever their number. `text` is nft's own syntax.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from engine.networks.model import (
    OPTION_ICC,
    OPTION_MASQUERADE,
    Network,
)


class Type(Enum):
    """Types of set keys: nft's name, its number (only for who lists the rules), bytes,
    whether it stands for an interval."""

    ADDRESS = ("ipv4_addr", 7, 4, False)
    SUBNET = ("ipv4_addr", 7, 4, True)  # "172.18.0.0/16": all addresses in it
    PROTOCOL = ("inet_proto", 12, 1, False)
    SERVICE = ("inet_service", 13, 2, False)
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


@dataclass(frozen=True, slots=True)
class InterfacesIn:
    """`iifname . oifname` is an element."""

    set_name: str


@dataclass(frozen=True, slots=True)
class AddressIn:
    side: str  # "saddr", "daddr"
    network: str
    prefix: int


@dataclass(frozen=True, slots=True)
class DestinationIsLocal: ...


@dataclass(frozen=True, slots=True)
class DestinationPort:
    protocol: str
    port: int


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


@dataclass(frozen=True, slots=True)
class DnatTo:
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Masquerade: ...


class Verdict(Enum):
    DROP = 0
    ACCEPT = 1


Statement = (
    InterfaceIs
    | InterfaceIn
    | InterfacesIn
    | SourceIn
    | AddressIn
    | DestinationIsLocal
    | DestinationPort
    | StateIn
    | WasRedirected
    | DnatFrom
    | DnatTo
    | Masquerade
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
class Table:
    """A table of family `ip`."""

    name: str
    sets: tuple[Set, ...] = ()
    maps: tuple[Map, ...] = ()
    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedPort:
    protocol: str
    host_ip: str  # "0.0.0.0" = all of the host's addresses
    host_port: int
    address: str
    port: int


RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100  # priorities, as nft names them
IIF, OIF = "iifname", "oifname"
PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}
WILDCARD = "0.0.0.0"


def table_name(tag: str) -> str:
    return f"pycompose-{tag}"


def make_table(
    tag: str,
    networks: Iterable[Network],
    ports: Iterable[PublishedPort] = (),
    guarded: Iterable[str] = (),
) -> Table:
    """`guarded`: interfaces between which nothing was forwarded before this engine turned
    forwarding on; that stays so."""
    bridged = [network for network in networks if network.bridge]
    return Table(
        table_name(tag),
        sets=(
            Set("bridges", (Type.INTERFACE,), _names(bridged)),
            Set("subnets", (Type.SUBNET,), frozenset((n.pools[0].subnet,) for n in bridged)),
            Set("internal", (Type.INTERFACE,), _names(n for n in bridged if n.internal)),
            Set("masqueraded", (Type.INTERFACE,), _names(n for n in bridged if masqueraded(n))),
            Set(
                "within",
                (Type.INTERFACE, Type.INTERFACE),
                frozenset((n.bridge, n.bridge) for n in bridged if talks_within(n)),
            ),
            Set("guarded", (Type.INTERFACE,), frozenset((name,) for name in guarded)),
        ),
        maps=port_maps(ports),
        chains=CHAINS,
    )


def _names(networks: Iterable[Network]) -> frozenset[Element]:
    return frozenset((network.bridge,) for network in networks)


def masqueraded(network: Network) -> bool:
    return not network.internal and network.options.get(OPTION_MASQUERADE, "true") != "false"


def talks_within(network: Network) -> bool:
    return network.options.get(OPTION_ICC, "true") != "false"


def port_maps(ports: Iterable[PublishedPort]) -> tuple[Map, Map]:
    everywhere: dict[Element, Element] = {}
    somewhere: dict[Element, Element] = {}
    for port in ports:
        if port.host_ip == WILDCARD:
            everywhere[port.protocol, port.host_port] = (port.address, port.port)
        else:
            key = (port.host_ip, port.protocol, port.host_port)
            somewhere[key] = (port.address, port.port)
    target = (Type.ADDRESS, Type.SERVICE)
    return (
        Map("published_at", (Type.ADDRESS, Type.PROTOCOL, Type.SERVICE), target, somewhere),
        Map("published", (Type.PROTOCOL, Type.SERVICE), target, everywhere),
    )


# A binding to one address wins over one to all of them.
_TO_PUBLISHED: tuple[Rule, ...] = (
    (DestinationIsLocal(), DnatFrom("published_at", by_address=True)),
    (DestinationIsLocal(), DnatFrom("published", by_address=False)),
)

_FROM_ELSEWHERE = InterfaceIs(IIF, "lo", negated=True)

CHAINS = (
    # route_localnet lets the bridges carry 127/8, which nobody but this host may use
    # (CVE-2020-8558). Before connection tracking: answers to redirected packets don't match.
    Chain(
        "loopback_guard",
        "filter",
        Hook.PREROUTING,
        RAW,
        (
            (_FROM_ELSEWHERE, AddressIn("daddr", "127.0.0.0", 8), Verdict.DROP),
            (_FROM_ELSEWHERE, AddressIn("saddr", "127.0.0.0", 8), Verdict.DROP),
        ),
    ),
    Chain("prerouting", "nat", Hook.PREROUTING, DSTNAT, _TO_PUBLISHED),
    Chain("output", "nat", Hook.OUTPUT, DSTNAT, _TO_PUBLISHED),
    Chain(
        "postrouting",
        "nat",
        Hook.POSTROUTING,
        SRCNAT,
        (
            # This host at 127.0.0.1, to a published port.
            (AddressIn("saddr", "127.0.0.0", 8), InterfaceIn(OIF, "bridges"), Masquerade()),
            (
                InterfaceIn(IIF, "masqueraded"),
                InterfaceIn(OIF, "bridges", negated=True),
                Masquerade(),
            ),
            # Hairpin: a container that uses a published port, perhaps its own. The answer has to
            # come back this way instead of directly. By address, for where br_netfilter is at
            # work the interface it came by is not known here.
            (
                SourceIn("subnets"),
                InterfaceIn(OIF, "bridges"),
                WasRedirected(),
                Masquerade(),
            ),
        ),
    ),
    Chain(
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
            # Other networks, and neighbours that route to a container's own address.
            (InterfaceIn(OIF, "bridges"), Verdict.DROP),
            # What connection tracking doesn't know leaves with a container's private address.
            (InterfaceIn(IIF, "bridges"), StateIn((State.INVALID,)), Verdict.DROP),
            (InterfaceIn(IIF, "guarded"), InterfaceIn(OIF, "guarded"), Verdict.DROP),
        ),
    ),
    # An internal network has no way to the host either, whatever routes a container makes; the
    # host may still call its containers.
    Chain(
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
            (InterfaceIn(IIF, "internal"), Verdict.DROP),
        ),
    ),
)


def name_service_table(udp_port: int, tcp_port: int) -> Table:
    """Inside a container's namespace: 127.0.0.11:53 leads to the engine's sockets, which can't
    be bound to port 53 themselves (a container may want it for all addresses)."""
    server = AddressIn("daddr", "127.0.0.11", 32)
    rules: tuple[Rule, ...] = (
        (server, DestinationPort("udp", 53), DnatTo("127.0.0.11", udp_port)),
        (server, DestinationPort("tcp", 53), DnatTo("127.0.0.11", tcp_port)),
    )
    chain = Chain("output", "nat", Hook.OUTPUT, DSTNAT, rules)
    return Table("pycompose-dns", chains=(chain,))


def text(table: Table) -> str:
    """`table` in nft's syntax."""
    lines = [f"table ip {table.name} {{"]
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
        case SourceIn(set_name):
            return f"ip saddr @{set_name}"
        case InterfacesIn(set_name):
            return f"iifname . oifname @{set_name}"
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
        case DnatFrom(map_name, by_address):
            address = "ip daddr . " if by_address else ""
            return f"dnat ip to {address}meta l4proto . th dport map @{map_name}"
        case DnatTo(address, port):
            return f"dnat to {address}:{port}"
        case Masquerade():
            return "masquerade"
        case Verdict():
            return statement.name.lower()
