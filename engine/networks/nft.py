"""What an nftables table may be made of, as values: https://wiki.nftables.org. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

RAW, DSTNAT, FILTER, SRCNAT = -300, -100, 0, 100  # priorities, as nft names them
IIF, OIF = "iifname", "oifname"
PROTOCOL_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "sctp": 132}
# Of a shared port; up to 6 containers and many larger numbers get just the same part of them.
SLOTS = 60


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
