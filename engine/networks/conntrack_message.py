"""Pure: which tracked flows a change of published ports makes stale (ctnetlink).

UDP has no connection that ends: as long as a client goes on sending, the kernel would send its
packets where the first one went, to a container that is gone, or to none. Of TCP so are attempts
that nobody has answered: the client goes on trying, and is to reach who has the port now.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from engine.networks.firewall_rules import (
    PublishedPort,
)
from engine.networks.netlink import Message, Reply, attribute, attributes
from engine.networks.nft import PROTOCOL_NUMBERS

SUBSYSTEM = 1
GET, DELETE = 1, 2
TUPLE_ORIGINAL, TUPLE_REPLY, STATUS, NESTED = 1, 2, 3, 0x8000
SEEN_REPLY = 1 << 1  # IPS_SEEN_REPLY
PROTOCOL_INFO, INFO_TCP, TCP_STATE = 4, 1, 1
# TCP_CONNTRACK_SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, SYN_SENT2: something may
# still be said.
OPEN_STATES = frozenset({1, 2, 3, 4, 5, 9})
# Of the addresses in a tuple: source, destination.
ADDRESSES = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Tuple:
    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int


def _header(family: int) -> bytes:
    return struct.pack("!BBH", family, 0, 0)


def list_flows(version: int) -> Message:
    body = _header(FAMILIES[version])
    return Message(SUBSYSTEM << 8 | GET, 0, body, "list tracked connections")


def forget_flow(reply: Reply) -> Message:
    """The request that ends the flow which `reply` of the list is about."""
    original = dict(attributes(reply.body[4:]))[TUPLE_ORIGINAL]
    body = _header(reply.body[0]) + attribute(TUPLE_ORIGINAL | NESTED, original)
    return Message(SUBSYSTEM << 8 | DELETE, 0, body, "forget a tracked connection")


def is_stale(reply: Reply, come: Sequence[PublishedPort], gone: Sequence[PublishedPort]) -> bool:
    """Whether the flow went to a port of `gone`, or to one of `come` while it led nowhere."""
    found = dict(attributes(reply.body[4:]))
    if TUPLE_ORIGINAL not in found or TUPLE_REPLY not in found:
        return False
    family = reply.body[0]
    asked = _tuple(family, found[TUPLE_ORIGINAL])
    answered = _tuple(family, found[TUPLE_REPLY])
    if asked is None or answered is None:
        return False
    if asked.protocol == PROTOCOL_NUMBERS["tcp"]:
        if int.from_bytes(found.get(STATUS, b""), "big") & SEEN_REPLY:
            return False
    elif asked.protocol != PROTOCOL_NUMBERS["udp"]:
        return False
    translated = (answered.source, answered.destination) != (asked.destination, asked.source)
    return any(
        asked.destination_port == port.host_port
        and (answered.source, answered.source_port) == (port.address, port.port)
        for port in gone
    ) or any(asked.destination_port == port.host_port and not translated for port in come)


def is_open_at(reply: Reply, ports: Sequence[PublishedPort]) -> bool:
    """Whether the flow is a TCP connection that hasn't ended yet, to where one of them leads."""
    # There may be thousands of others, and this is asked again and again.
    family = reply.body[0]
    if not any(
        FAMILIES[port.version] == family and socket.inet_pton(family, port.address) in reply.body
        for port in ports
    ):
        return False
    found = dict(attributes(reply.body[4:]))
    answered = _tuple(family, found.get(TUPLE_REPLY, b""))
    if answered is None or answered.protocol != PROTOCOL_NUMBERS["tcp"]:
        return False
    tcp = dict(attributes(dict(attributes(found.get(PROTOCOL_INFO, b""))).get(INFO_TCP, b"")))
    state = tcp.get(TCP_STATE, b"\0")[0]
    return state in OPEN_STATES and any(
        (answered.source, answered.source_port) == (port.address, port.port) for port in ports
    )


def _tuple(family: int, packed: bytes) -> Tuple | None:
    parts = dict(attributes(packed))
    addresses = dict(attributes(parts.get(1, b"")))
    protocol = dict(attributes(parts.get(2, b"")))
    if family not in ADDRESSES or not {1, 2, 3} <= protocol.keys():
        return None  # a protocol without ports
    source, destination = ADDRESSES[socket.AddressFamily(family)]
    if not {source, destination} <= addresses.keys():
        return None
    return Tuple(
        protocol[1][0],
        socket.inet_ntop(family, addresses[source]),
        int.from_bytes(protocol[2], "big"),
        socket.inet_ntop(family, addresses[destination]),
        int.from_bytes(protocol[3], "big"),
    )
