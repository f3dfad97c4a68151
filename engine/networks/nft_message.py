"""Pure: a table's value as nftables messages (linux/netfilter/nf_tables.h), for one transaction."""

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import assert_never

from engine.networks.netlink import (
    APPEND,
    CREATE,
    Message,
    Reply,
    attribute,
    attributes,
    nested,
    net_u32,
    replies,
    text,
)
from engine.networks.nft import (
    PROTOCOL_NUMBERS,
    SLOTS,
    AddressIn,
    Chain,
    Counter,
    DestinationIn,
    DestinationIsLocal,
    DestinationPort,
    DnatFrom,
    DnatTo,
    Element,
    Family,
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
    StateIn,
    Statement,
    Table,
    TableName,
    Type,
    Verdict,
    WasRedirected,
)

SUBSYSTEM = 10
BATCH_BEGIN, BATCH_END = 0x10, 0x11
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, NEWRULE = 0, 1, 2, 3, 4, 6
NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = 9, 12, 13, 14
ANY_FAMILY = 0  # NFPROTO_UNSPEC: lists those of all
SET_INTERVAL, SET_MAP = 4, 8
INTERVAL_END = 1

# Registers of 16 bytes (1..4) overlay those of 4 bytes (8..23): register 8 starts register 1.
VERDICT, FIRST, SECOND, THIRD, FIFTH = 0, 8, 9, 10, 12
META_IIFNAME, META_OIFNAME, META_L4PROTO = 6, 7, 16
CT_STATE, CT_STATUS, STATUS_DNAT = 0, 2, 32
NETWORK_HEADER, TRANSPORT_HEADER = 1, 2
EQUAL, UNEQUAL = 0, 1
FIB_DADDR, FIB_ADDRTYPE, RTN_LOCAL = 2, 3, 2
NAT_DNAT = 1
NUMGEN_RANDOM = 1
PROTOCOL_NAMES = {number: name for name, number in PROTOCOL_NUMBERS.items()}

# An attribute's length has 16 bits, so a long list of elements takes several messages.
ELEMENTS_A_MESSAGE = 500


def message(kind: int, body: bytes, flags: int, purpose: str, family: int) -> Message:
    header = struct.pack("!BBH", family, 0, 0)
    return Message(SUBSYSTEM << 8 | kind, flags, header + body, purpose)


def transaction(messages: Iterable[Message]) -> list[Message]:
    edge = struct.pack("!BBH", 0, 0, SUBSYSTEM)
    purpose = "change the firewall"
    return [Message(BATCH_BEGIN, 0, edge, purpose), *messages, Message(BATCH_END, 0, edge, purpose)]


def replace_table(table: Table) -> list[Message]:
    """Whatever the table held before; in one transaction there is no moment without it."""
    return [new_table(table.name), *delete_table(table.name), *create_table(table)]


def new_table(table: TableName) -> Message:
    purpose = f"create the nftables table {table.name}"
    return message(NEWTABLE, text(1, table.name), CREATE, purpose, table.family.number)


def delete_table(table: TableName) -> list[Message]:
    """Also where there is none: it is created first."""
    purpose = f"delete the nftables table {table.name}"
    gone = message(DELTABLE, text(1, table.name), 0, purpose, table.family.number)
    return [new_table(table), gone]


def create_table(table: Table) -> list[Message]:
    declared: tuple[Set | Map, ...] = (*table.sets, *table.maps)
    messages = [new_table(table.name)]
    messages += [_new_set(table.name, number, each) for number, each in enumerate(declared, 1)]
    for each_set in table.sets:
        messages += add_elements(table.name, each_set.name, each_set.key, each_set.elements)
    for each_map in table.maps:
        messages += add_map_elements(table.name, each_map, each_map.elements)
    for chain in table.chains:
        messages.append(_new_chain(table.name, chain))
        messages += [_new_rule(table.name, chain.name, rule) for rule in chain.rules]
    return messages


def _new_set(table: TableName, number: int, each: Set | Map) -> Message:
    body = text(1, table.name) + text(2, each.name)
    flags = SET_MAP if isinstance(each, Map) else SET_INTERVAL if each.is_interval else 0
    body += net_u32(3, flags)
    body += net_u32(4, _type_number(each.key)) + net_u32(5, _width(each.key))
    if isinstance(each, Map):
        body += net_u32(6, _type_number(each.value)) + net_u32(7, _width(each.value))
    body += net_u32(10, number)
    if each.key == (Type.INTERFACE,):
        # For those who list the rules: without its byte order nft shows such a key as "".
        body += attribute(13, struct.pack("=BBI", 0, 4, 1))
    purpose = f"create the nftables set {each.name}"
    return message(NEWSET, body, CREATE, purpose, table.family.number)


def _new_chain(table: TableName, chain: Chain) -> Message:
    hook = nested(4, net_u32(1, chain.hook.value), attribute(2, struct.pack("!i", chain.priority)))
    body = text(1, table.name) + text(3, chain.name) + hook + net_u32(5, Verdict.ACCEPT.value)
    body += text(7, chain.type)
    purpose = f"create the nftables chain {chain.name}"
    return message(NEWCHAIN, body, CREATE, purpose, table.family.number)


def _new_rule(table: TableName, chain: str, rule: Rule) -> Message:
    body = text(1, table.name) + text(2, chain) + rule_expressions(rule)
    purpose = f"add a rule to the nftables chain {chain}"
    return message(NEWRULE, body, CREATE | APPEND, purpose, table.family.number)


def rule_expressions(rule: Rule) -> bytes:
    return nested(4, *(part for statement in rule for part in _expressions(statement)))


# Sets and maps


def _type_number(types: Sequence[Type]) -> int:
    number = 0
    for each in types:
        number = number << 6 | each.value[1]
    return number


def _width(types: Sequence[Type]) -> int:
    return sum(-(-each.value[2] // 4) * 4 for each in types)


def pack_element(types: Sequence[Type], element: Element) -> bytes:
    """Each part fills whole registers of 4 bytes."""
    return b"".join(_part(kind, part) for kind, part in zip(types, element, strict=True))


def _part(kind: Type, part: str | int) -> bytes:
    match kind:
        case Type.ADDRESS:
            return ipaddress.IPv4Address(part).packed
        case Type.SUBNET:
            return ipaddress.IPv4Network(part).network_address.packed
        case Type.ADDRESS6:
            return ipaddress.IPv6Address(part).packed
        case Type.SUBNET6:
            return ipaddress.IPv6Network(part).network_address.packed
        case Type.PROTOCOL:
            return struct.pack("!B3x", PROTOCOL_NUMBERS[str(part)])
        case Type.SERVICE:
            return struct.pack("!H2x", part)
        case Type.MARK:
            return struct.pack("=I", part)
        case Type.INTERFACE:
            return str(part).encode().ljust(16, b"\0")
        case _:
            assert_never(kind)


def unpack_element(types: Sequence[Type], packed: bytes) -> Element:
    parts: list[str | int] = []
    offset = 0
    for kind in types:
        width = _width((kind,))
        part = packed[offset : offset + width]
        offset += width
        match kind:
            case Type.ADDRESS | Type.SUBNET:
                parts.append(socket.inet_ntoa(part))
            case Type.ADDRESS6 | Type.SUBNET6:
                parts.append(str(ipaddress.IPv6Address(part)))
            case Type.PROTOCOL:
                parts.append(PROTOCOL_NAMES.get(part[0], str(part[0])))
            case Type.SERVICE:
                parts.append(int.from_bytes(part[:2], "big"))
            case Type.MARK:
                parts.append(int.from_bytes(part, sys.byteorder))
            case Type.INTERFACE:
                parts.append(part.rstrip(b"\0").decode(errors="replace"))
            case _:
                assert_never(kind)
    return tuple(parts)


def add_elements(
    table: TableName, set_name: str, key: Sequence[Type], elements: Iterable[Element]
) -> list[Message]:
    return _element_messages(NEWSETELEM, table, set_name, _pack_keys(key, elements))


def delete_elements(
    table: TableName, set_name: str, key: Sequence[Type], elements: Iterable[Element]
) -> list[Message]:
    return _element_messages(DELSETELEM, table, set_name, _pack_keys(key, elements))


def _pack_keys(key: Sequence[Type], elements: Iterable[Element]) -> Iterator[bytes]:
    for element in elements:
        yield _value(1, pack_element(key, element))
        if key in ((Type.SUBNET,), (Type.SUBNET6,)):
            # An interval is two elements: its first address, and the first one after it.
            last = ipaddress.ip_network(element[0]).broadcast_address
            after = (int(last) + 1).to_bytes(len(last.packed), "big")
            yield _value(1, after) + net_u32(3, INTERVAL_END)


def add_map_elements(
    table: TableName, each: Map, elements: Mapping[Element, Element]
) -> list[Message]:
    packed = (
        _value(1, pack_element(each.key, key)) + _value(2, pack_element(each.value, value))
        for key, value in elements.items()
    )
    return _element_messages(NEWSETELEM, table, each.name, packed)


def _value(kind: int, packed: bytes) -> bytes:
    return nested(kind, attribute(1, packed))


def _element_messages(
    kind: int, table: TableName, set_name: str, packed: Iterable[bytes]
) -> list[Message]:
    purpose = f"change the nftables set {set_name}"
    rest: Iterator[bytes] = iter(packed)
    messages: list[Message] = []
    while some := [nested(1, each) for each in islice(rest, ELEMENTS_A_MESSAGE)]:
        body = text(1, table.name) + text(2, set_name) + nested(3, *some)
        flags = CREATE if kind == NEWSETELEM else 0
        messages.append(message(kind, body, flags, purpose, table.family.number))
    return messages


def list_elements(table: TableName, set_name: str) -> Message:
    body = text(1, table.name) + text(2, set_name)
    purpose = f"list the nftables set {set_name}"
    return message(GETSETELEM, body, 0, purpose, table.family.number)


def listed_elements(
    reply: Reply, key: Sequence[Type], value: Sequence[Type]
) -> Iterator[tuple[Element, Element]]:
    """Elements of a map in one answer to `list_elements`; of a set with an empty value."""
    for kind, elements in attributes(reply.body[4:]):
        if kind != 3:
            continue
        for _, element in attributes(elements):
            parts = dict(attributes(element))
            found_key = dict(attributes(parts[1]))[1]
            found_value = dict(attributes(parts[2]))[1] if 2 in parts else b""
            yield unpack_element(key, found_key), unpack_element(value, found_value)


def list_tables() -> Message:
    return message(GETTABLE, b"", 0, "list the nftables tables", ANY_FAMILY)


def listed_table(reply: Reply) -> TableName | None:
    """None for one of a family that the engine has nothing in."""
    found = next((family for family in Family if family.number == reply.body[0]), None)
    name = dict(attributes(reply.body[4:])).get(1, b"").rstrip(b"\0").decode(errors="replace")
    return TableName(found, name) if found else None


def removed_tables(datagram: bytes) -> Iterator[TableName]:
    """The tables that a notification says are gone."""
    for reply in replies(datagram):
        if reply.type == SUBSYSTEM << 8 | DELTABLE and (table := listed_table(reply)):
            yield table


def list_chains() -> Message:
    return message(GETCHAIN, b"", 0, "list the nftables chains", ANY_FAMILY)


# Statements: each loads registers, then compares, looks up or acts


def _expression(name: str, *parts: bytes) -> bytes:
    return nested(1, text(1, name), nested(2, *parts))


def _load_meta(key: int, register: int) -> bytes:
    return _expression("meta", net_u32(1, register), net_u32(2, key))


def _load_payload(base: int, offset: int, length: int, register: int) -> bytes:
    parts = (net_u32(1, register), net_u32(2, base), net_u32(3, offset), net_u32(4, length))
    return _expression("payload", *parts)


def _compare(operation: int, value: bytes, register: int = FIRST) -> bytes:
    return _expression("cmp", net_u32(1, register), net_u32(2, operation), _value(3, value))


def _mask(mask: bytes, register: int = FIRST) -> bytes:
    parts = (net_u32(1, register), net_u32(2, register), net_u32(3, len(mask)))
    return _expression("bitwise", *parts, _value(4, mask), _value(5, bytes(len(mask))))


def _lookup(set_name: str, *, negated: bool = False, into: int | None = None) -> bytes:
    parts = [text(1, set_name), net_u32(2, FIRST)]
    if into is not None:
        parts.append(net_u32(3, into))
    if negated:
        parts.append(net_u32(5, 1))
    return _expression("lookup", *parts)


def _load_immediate(value: bytes, register: int) -> bytes:
    return _expression("immediate", net_u32(1, register), _value(2, value))


def _dnat(family: Family) -> bytes:
    port = FIRST + _width((Type.ADDRESS if family is Family.IPV4 else Type.ADDRESS6,)) // 4
    parts = (net_u32(1, NAT_DNAT), net_u32(2, family.number), net_u32(3, FIRST), net_u32(5, port))
    return _expression("nat", *parts)


def _load_address(side: str, family: Family) -> bytes:
    if family is Family.IPV4:
        return _load_payload(NETWORK_HEADER, 12 if side == "saddr" else 16, 4, FIRST)
    return _load_payload(NETWORK_HEADER, 8 if side == "saddr" else 24, 16, FIRST)


def _load_service(after: int) -> list[bytes]:
    return [
        _load_meta(META_L4PROTO, after),
        _load_payload(TRANSPORT_HEADER, 2, 2, after + 1),
    ]


def _draw(below: int, register: int) -> bytes:
    """A random number, in the machine's byte order."""
    parts = (net_u32(1, register), net_u32(2, below), net_u32(3, NUMGEN_RANDOM))
    return _expression("numgen", *parts)


def _any_bit(mask: int) -> list[bytes]:
    """The host-order word in the first register has one of the bits."""
    return [_mask(struct.pack("=I", mask)), _compare(UNEQUAL, bytes(4))]


def _interface_key(direction: str) -> int:
    return META_IIFNAME if direction == "iifname" else META_OIFNAME


@lru_cache(256)
def _expressions(statement: Statement) -> Sequence[bytes]:
    match statement:
        case InterfaceIs(direction, name, negated):
            operation = UNEQUAL if negated else EQUAL
            wanted = pack_element((Type.INTERFACE,), (name,))
            return [_load_meta(_interface_key(direction), FIRST), _compare(operation, wanted)]
        case InterfaceIn(direction, set_name, negated):
            loaded = _load_meta(_interface_key(direction), FIRST)
            return [loaded, _lookup(set_name, negated=negated)]
        case SourceIn(set_name, family):
            return [_load_address("saddr", family), _lookup(set_name)]
        case DestinationIn(set_name, family):
            after = SECOND if family is Family.IPV4 else FIFTH
            return [_load_address("daddr", family), *_load_service(after), _lookup(set_name)]
        case ProtocolIs(name):
            number = bytes([PROTOCOL_NUMBERS[name]])
            return [_load_meta(META_L4PROTO, FIRST), _compare(EQUAL, number)]
        case Neighbour():
            return [
                _load_meta(META_L4PROTO, FIRST),
                _compare(EQUAL, bytes([PROTOCOL_NUMBERS["ipv6-icmp"]])),
                _load_payload(TRANSPORT_HEADER, 0, 1, FIRST),
                _compare(EQUAL, bytes([statement.value])),
            ]
        case InterfacesIn(set_name):
            pair = [_load_meta(META_IIFNAME, FIRST), _load_meta(META_OIFNAME, FIFTH)]
            return [*pair, _lookup(set_name)]
        case AddressIn(side, network, 128):
            loaded = _load_address(side, Family.IPV6)
            return [loaded, _compare(EQUAL, ipaddress.IPv6Address(network).packed)]
        case AddressIn(side, network, prefix):
            mask = struct.pack("!I", 0xFFFFFFFF << (32 - prefix) & 0xFFFFFFFF)
            masked = [] if prefix == 32 else [_mask(mask)]
            loaded = _load_address(side, Family.IPV4)
            return [loaded, *masked, _compare(EQUAL, ipaddress.IPv4Address(network).packed)]
        case DestinationIsLocal():
            parts = (net_u32(1, FIRST), net_u32(2, FIB_ADDRTYPE), net_u32(3, FIB_DADDR))
            return [_expression("fib", *parts), _compare(EQUAL, struct.pack("=I", RTN_LOCAL))]
        case DestinationPort(protocol, port):
            number = bytes([PROTOCOL_NUMBERS[protocol]])
            return [
                _load_meta(META_L4PROTO, FIRST),
                _compare(EQUAL, number),
                _load_payload(TRANSPORT_HEADER, 2, 2, FIRST),
                _compare(EQUAL, struct.pack("!H", port)),
            ]
        case StateIn(states):
            loaded = _expression("ct", net_u32(1, FIRST), net_u32(2, CT_STATE))
            return [loaded, *_any_bit(sum(state.value for state in states))]
        case WasRedirected():
            loaded = _expression("ct", net_u32(1, FIRST), net_u32(2, CT_STATUS))
            return [loaded, *_any_bit(STATUS_DNAT)]
        case DnatFrom(map_name, by_address, family, spread):
            after = FIRST if not by_address else SECOND if family is Family.IPV4 else FIFTH
            address = [_load_address("daddr", family)] if by_address else []
            lot = [_draw(SLOTS, after + 2)] if spread else []
            looked_up = _lookup(map_name, into=FIRST)
            return [*address, *_load_service(after), *lot, looked_up, _dnat(family)]
        case DnatTo(address, port):
            return [
                _load_immediate(ipaddress.IPv4Address(address).packed, FIRST),
                _load_immediate(struct.pack("!H", port), SECOND),
                _dnat(Family.IPV4),
            ]
        case Masquerade():
            return [_expression("masq")]
        case Counter():
            return [_expression("counter")]
        case Verdict():
            code = nested(2, net_u32(1, statement.value))
            return [_expression("immediate", net_u32(1, VERDICT), nested(2, code))]
        case _:
            assert_never(statement)
