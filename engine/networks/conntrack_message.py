"""Pure: which tracked UDP flows a change of published ports makes stale (ctnetlink).

UDP has no connection that ends: as long as a client goes on sending, the kernel would send its
packets where the first one went, to a container that is gone, or to none.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from engine.networks.firewall_rules import PROTOCOL_NUMBERS, PublishedPort
from engine.networks.netlink import Message, Reply, attribute, attributes

SUBSYSTEM = 1
GET, DELETE = 1, 2
TUPLE_ORIGINAL, TUPLE_REPLY, NESTED = 1, 2, 0x8000
HEADER = struct.pack("!BBH", socket.AF_INET, 0, 0)


@dataclass(frozen=True, slots=True)
class Tuple:
    protocol: int
    source: str
    source_port: int
    destination: str
    destination_port: int


def list_flows() -> Message:
    return Message(SUBSYSTEM << 8 | GET, 0, HEADER, "list tracked connections")


def forget_flow(reply: Reply) -> Message:
    """The request that ends the flow which `reply` of the list is about."""
    original = dict(attributes(reply.body[4:]))[TUPLE_ORIGINAL]
    body = HEADER + attribute(TUPLE_ORIGINAL | NESTED, original)
    return Message(SUBSYSTEM << 8 | DELETE, 0, body, "forget a tracked connection")


def is_stale(reply: Reply, come: Sequence[PublishedPort], gone: Sequence[PublishedPort]) -> bool:
    """Whether the flow went to a port of `gone`, or to one of `come` while it led nowhere."""
    found = dict(attributes(reply.body[4:]))
    if TUPLE_ORIGINAL not in found or TUPLE_REPLY not in found:
        return False
    asked, answered = _tuple(found[TUPLE_ORIGINAL]), _tuple(found[TUPLE_REPLY])
    if asked is None or answered is None or asked.protocol != PROTOCOL_NUMBERS["udp"]:
        return False
    translated = (answered.source, answered.destination) != (asked.destination, asked.source)
    return any(
        asked.destination_port == port.host_port
        and (answered.source, answered.source_port) == (port.address, port.port)
        for port in gone
    ) or any(asked.destination_port == port.host_port and not translated for port in come)


def _tuple(packed: bytes) -> Tuple | None:
    parts = dict(attributes(packed))
    addresses = dict(attributes(parts.get(1, b"")))
    protocol = dict(attributes(parts.get(2, b"")))
    if not {1, 2} <= addresses.keys() or not {1, 2, 3} <= protocol.keys():
        return None  # IPv6, or a protocol without ports
    return Tuple(
        protocol[1][0],
        socket.inet_ntoa(addresses[1]),
        int.from_bytes(protocol[2], "big"),
        socket.inet_ntoa(addresses[2]),
        int.from_bytes(protocol[3], "big"),
    )
