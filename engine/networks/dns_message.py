"""Pure: DNS messages, bytes <-> question and answer (RFC 1035). The home of dnslib."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dnslib import AAAA, PTR, QTYPE, RCODE, RR, A, DNSError, DNSRecord

# Short, as a container's address changes when it is made anew.
TIME_TO_LIVE = 5
PLAIN_SIZE = 512  # what fits in UDP for a client without EDNS
MOST_UDP = 4096
TYPE_A, TYPE_PTR, TYPE_AAAA = 1, 12, 28


class MalformedMessage(Exception): ...


@dataclass(frozen=True, slots=True)
class Query:
    identifier: int
    name: str  # as asked, without the dot at the end
    type: int
    udp_size: int  # of the largest answer the client takes
    raw: bytes
    record: Any  # dnslib's


def parse_query(raw: bytes) -> Query:
    """Raises MalformedMessage for what isn't one standard question of class IN."""
    try:
        record = DNSRecord.parse(raw)
    except (DNSError, ValueError, IndexError, struct.error) as error:
        raise MalformedMessage(str(error)) from error
    header = record.header
    if header.qr or header.opcode or len(record.questions) != 1:
        raise MalformedMessage("not a query with one question")
    question = record.questions[0]
    if question.qclass != 1:
        raise MalformedMessage(f"class {question.qclass}")
    sizes = [each.edns_len for each in record.ar if each.rtype == QTYPE.OPT]
    size = min(max([PLAIN_SIZE, *sizes]), MOST_UDP)
    name = str(question.qname).rstrip(".")
    return Query(header.id, name, question.qtype, size, raw, record)


def answer_addresses(query: Query, addresses: Sequence[str]) -> bytes:
    """Those of the type asked for. None of them: NODATA, which is not NXDOMAIN: a client that
    asks for AAAA first must not conclude that the name doesn't exist."""
    reply = _reply(query)
    for address in addresses:
        kind = TYPE_AAAA if ":" in address else TYPE_A
        if kind == query.type:
            data = AAAA(address) if kind == TYPE_AAAA else A(address)
            reply.add_answer(_resource(query, kind, data))
    return bytes(reply.pack())


def answer_name(query: Query, name: str) -> bytes:
    reply = _reply(query)
    reply.add_answer(_resource(query, TYPE_PTR, PTR(name)))
    return bytes(reply.pack())


def _reply(query: Query) -> Any:
    reply = query.record.reply(ra=1, aa=0)
    # dnslib gives back an OPT record for none; RFC 6891: one only where the query had one.
    reply.ar = []
    return reply


def _resource(query: Query, kind: int, data: object) -> Any:
    return RR(query.record.q.qname, kind, rdata=data, ttl=TIME_TO_LIVE)


def refuse(query: Query, code: str) -> bytes:
    """`code` as in RFC 1035 and dnslib: NXDOMAIN, SERVFAIL, REFUSED."""
    reply = _reply(query)
    reply.header.rcode = getattr(RCODE, code)
    return bytes(reply.pack())


def format_error(raw: bytes) -> bytes | None:
    """The answer to a malformed query; None where there isn't even an identifier, or where it
    is an answer itself (answering those makes loops)."""
    if len(raw) < 12 or raw[2] & 0x80:
        return None
    return raw[:2] + struct.pack("!HHHHH", 0x8000 | 1, 0, 0, 0, 0)


def fitted(query: Query, answer: bytes) -> bytes:
    """`answer` for UDP: cut to the question with TC set where it is too long for the client."""
    if len(answer) <= query.udp_size:
        return answer
    reply = _reply(query)
    reply.header.tc = 1
    return bytes(reply.pack())


def with_identifier(raw: bytes, identifier: int) -> bytes:
    return struct.pack("!H", identifier) + raw[2:]


def answers(query: Query, identifier: int, raw: bytes) -> bool:
    """Whether `raw` is an answer to this question, asked under `identifier` (and not forged)."""
    if len(raw) < 12 or not raw[2] & 0x80:
        return False
    try:
        record = DNSRecord.parse(raw)
    except (DNSError, ValueError, IndexError, struct.error):
        return False
    if record.header.id != identifier:
        return False
    if not record.questions:
        return bool(record.header.rcode)  # FORMERR and the like come without the question
    question = record.questions[0]
    same_name = str(question.qname).rstrip(".").lower() == query.name.lower()
    return same_name and question.qtype == query.type
