"""Pure: netlink messages as bytes, packed by hand as they lie on a container's start path.

The families' vocabularies live in `link_message.py` (links, addresses, routes) and
`nft_message.py` (nftables); sending is `netlink_socket.py`.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

REQUEST = 0x001
ACK = 0x004
ROOT_MATCH = 0x300  # NLM_F_DUMP
REPLACE = 0x100
EXCL = 0x200
CREATE = 0x400
APPEND = 0x800

ERROR = 2
DONE = 3
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE = struct.Struct("=HH")
NESTED = 0x8000
TYPE_MASK = 0x3FFF


@dataclass(frozen=True, slots=True)
class Message:
    """One request; `purpose` is what an error says could not be done."""

    type: int
    flags: int
    body: bytes
    purpose: str = ""

    def pack(self, sequence: int, *, acknowledge: bool = True) -> bytes:
        flags = self.flags | REQUEST | (ACK if acknowledge else 0)
        padding = b"\0" * (-len(self.body) % 4)
        length = HEADER.size + len(self.body)
        return HEADER.pack(length, self.type, flags, sequence, 0) + self.body + padding


@dataclass(frozen=True, slots=True)
class Reply:
    type: int
    flags: int
    sequence: int
    body: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    length = ATTRIBUTE.size + len(payload)
    if length > 0xFFFF:
        # The length field has 16 bits; wrapping around is what CVE-2021-43784 was made of.
        raise ValueError(f"a netlink attribute of {length} bytes is too long")
    return ATTRIBUTE.pack(length, kind) + payload + b"\0" * (-length % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def host_u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def net_u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("!I", value))


def attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of `payload` in order, without the nested and byte order flags."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(payload):
        length, kind = ATTRIBUTE.unpack_from(payload, offset)
        if length < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, payload[offset + ATTRIBUTE.size : offset + length]
        offset += length + (-length % 4)


def replies(datagram: bytes) -> Iterator[Reply]:
    offset = 0
    while offset + HEADER.size <= len(datagram):
        length, kind, flags, sequence, _port = HEADER.unpack_from(datagram, offset)
        if length < HEADER.size:
            return
        yield Reply(kind, flags, sequence, datagram[offset + HEADER.size : offset + length])
        offset += length + (-length % 4)


def error_of(reply: Reply) -> tuple[int, str]:
    """Number (0 = acknowledged) and, where the kernel gave one, the words of an ERROR reply."""
    number = -struct.unpack_from("=i", reply.body)[0]
    if not reply.flags & 0x200:  # NLM_F_ACK_TLVS
        return number, ""
    # With NETLINK_CAP_ACK only the header of the request comes back (NLM_F_CAPPED).
    length = struct.unpack_from("=I", reply.body, 4)[0]
    skipped = HEADER.size if reply.flags & 0x100 else length + (-length % 4)
    words = dict(attributes(reply.body[4 + skipped :]))
    return number, words.get(1, b"").rstrip(b"\0").decode(errors="replace")
