"""The name service end to end: sockets in containers' namespaces, and resolvers of the host."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from dnslib import QTYPE, RCODE, RR, A, DNSRecord

from engine.networks.dns_server import HostResolvers
from engine.networks.model import DnsOptions, Endpoint
from engine.networks.names import Directory
from tests.engine.networks.conftest import Container, Machine, add_default_route

pytestmark = pytest.mark.kernel


async def ask(container: Container, name: str, kind: str = "A", *, tcp: bool = False) -> DNSRecord:
    """The reply to one question, asked inside the container where its resolv.conf points to."""
    query = DNSRecord.question(name, kind)
    raw = await asyncio.to_thread(container.namespace.run, lambda: exchange(query.pack(), tcp))
    reply = DNSRecord.parse(raw)
    assert reply.header.id == query.header.id
    return reply


def exchange(raw: bytes, tcp: bool = False) -> bytes:
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as handle:
        handle.settimeout(10)
        handle.connect(("127.0.0.11", 53))
        if not tcp:
            handle.send(raw)
            return handle.recv(4096)
        handle.sendall(struct.pack("!H", len(raw)) + raw)
        with handle.makefile("rb") as stream:
            (length,) = struct.unpack("!H", stream.read(2))
            return stream.read(length)


def answers(reply: DNSRecord) -> set[str]:
    return {str(each.rdata) for each in reply.rr}


def code(reply: DNSRecord) -> str:
    return str(RCODE.get(reply.header.rcode))


class Resolver(asyncio.DatagramProtocol):
    """A resolver of the host, at 127.0.0.1."""

    def __init__(self, reply: Callable[[DNSRecord], DNSRecord | None]) -> None:
        self.reply = reply
        self.asked: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def answer(self, raw: bytes) -> bytes | None:
        query = DNSRecord.parse(raw)
        self.asked.append(str(query.q.qname))
        reply = self.reply(query)
        return None if reply is None else bytes(reply.pack())

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (reply := self.answer(data)) is not None:
            self.transport.sendto(reply, addr)  # type: ignore[attr-defined]


@asynccontextmanager
async def resolver(
    machine: Machine,
    reply: Callable[[DNSRecord], DNSRecord | None],
    address: str = "127.0.0.1",
) -> AsyncIterator[Resolver]:
    """One that the machine's name service asks, by UDP and TCP."""
    loop = asyncio.get_running_loop()
    own = Resolver(reply)
    transport, _ = await loop.create_datagram_endpoint(lambda: own, local_addr=(address, 53))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        answer = own.answer(await reader.readexactly(length))
        assert answer is not None
        writer.write(struct.pack("!H", len(answer)) + answer)
        writer.close()

    server = await asyncio.start_server(converse, address, 53)
    conf = machine.root / "resolv.conf"
    conf.write_text(f"nameserver {address}\n")
    machine.networks._names._resolvers = HostResolvers(conf)
    try:
        yield own
    finally:
        transport.close()
        server.close()


def says(*addresses: str) -> Callable[[DNSRecord], DNSRecord]:
    def reply(query: DNSRecord) -> DNSRecord:
        answer = query.reply()
        for address in addresses:
            answer.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(address)))
        return answer

    return reply


async def test_names_aliases_and_ids_of_the_own_networks_resolve(machine: Machine) -> None:
    front = await machine.network("front")
    back = await machine.network("back")
    asking = await machine.container("asking", front)
    one = await machine.container("web-1", front, aliases=("web",))
    two = await machine.container("web-2", front, aliases=("web",))
    for name in ("web-1", "WEB-1", "web-1.front", one.id[:12]):
        assert answers(await ask(asking, name)) == {one.address}, name
    assert answers(await ask(asking, "web")) == {one.address, two.address}
    assert answers(await ask(asking, "web", tcp=True)) == {one.address, two.address}
    assert answers(await ask(asking, "asking")) == {asking.address}
    pointer = ".".join(reversed(one.address.split("."))) + ".in-addr.arpa"
    assert answers(await ask(asking, pointer, "PTR")) == {"web-1.front."}
    # A name of another network is a question for the host's resolvers.
    hidden = await machine.container("hidden", back)
    async with resolver(machine, lambda query: refused(query)):
        assert code(await ask(asking, "hidden")) == "REFUSED"
    assert answers(await ask(hidden, "hidden")) == {hidden.address}


def refused(query: DNSRecord) -> DNSRecord:
    reply = query.reply()
    reply.header.rcode = RCODE.REFUSED
    return reply


async def test_known_name_without_ipv6_is_no_data(machine: Machine) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)
    reply = await ask(asking, "asking", "AAAA")
    assert (code(reply), answers(reply)) == ("NOERROR", set())


async def test_container_that_left_is_no_longer_found(machine: Machine) -> None:
    front = await machine.network("front", internal=True)
    asking = await machine.container("asking", front)
    gone = await machine.container("gone", front)
    await machine.networks.leave(gone.id)
    assert code(await ask(asking, "gone")) == "NXDOMAIN"


async def test_other_names_are_asked_from_the_host_resolvers(machine: Machine) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)
    async with resolver(machine, says("192.0.2.7")) as own:
        assert answers(await ask(asking, "example.test")) == {"192.0.2.7"}
        assert answers(await ask(asking, "example.test", tcp=True)) == {"192.0.2.7"}
        assert own.asked == ["example.test.", "example.test."]


async def test_internal_network_asks_nobody(machine: Machine) -> None:
    data = await machine.network("data", internal=True)
    asking = await machine.container("asking", data)
    async with resolver(machine, says("192.0.2.7")) as own:
        assert code(await ask(asking, "example.test")) == "NXDOMAIN"
        assert own.asked == []


async def test_resolvers_chosen_by_the_container_are_asked(machine: Machine) -> None:
    front = await machine.network("front")
    dns = DnsOptions(servers=("127.0.0.5",))
    asking = await machine.container("asking", front, dns=dns)
    async with resolver(machine, says("192.0.2.5"), "127.0.0.5"):
        assert answers(await ask(asking, "example.test")) == {"192.0.2.5"}


async def test_answer_too_long_for_udp_is_asked_for_again_by_tcp(machine: Machine) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)
    many = [f"192.0.2.{n}" for n in range(100)]
    async with resolver(machine, says(*many)):
        assert (await ask(asking, "many.test")).header.tc == 1
        assert answers(await ask(asking, "many.test", tcp=True)) == set(many)


async def test_silent_resolver_ends_in_servfail(machine: Machine) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)
    async with resolver(machine, lambda _: None):
        assert code(await ask(asking, "example.test")) == "SERVFAIL"


async def test_forged_answer_is_not_believed(machine: Machine) -> None:
    def other(query: DNSRecord) -> DNSRecord:
        reply = says("192.0.2.66")(DNSRecord.question("other.test"))
        reply.header.id = query.header.id
        return reply

    front = await machine.network("front")
    asking = await machine.container("asking", front)
    async with resolver(machine, other):
        assert code(await ask(asking, "example.test")) == "SERVFAIL"


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", b"\0" * 12, b"\xff" * 40, b"\0\1\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"],
    ids=["empty", "short", "no question", "noise", "pointer to itself"],
)
async def test_malformed_queries_do_no_harm(machine: Machine, raw: bytes) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            handle.sendto(raw, ("127.0.0.11", 53))
        with socket.create_connection(("127.0.0.11", 53)) as connection:
            connection.sendall(struct.pack("!H", len(raw)) + raw)

    await asyncio.to_thread(asking.namespace.run, send)
    assert answers(await ask(asking, "asking")) == {asking.address}


def test_resolv_conf_is_read_again_when_it_changed(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    resolvers = HostResolvers(conf)
    assert resolvers.servers() == ("127.0.0.1",)
    conf.write_text("nameserver 192.0.2.1\n")
    assert resolvers.servers() == ("192.0.2.1",)
    new = tmp_path / "new"
    new.write_text("nameserver 192.0.2.2\n")
    new.replace(conf)
    assert resolvers.servers() == ("192.0.2.2",)


def test_links_give_a_name_to_one_container_only() -> None:
    directory = Directory()
    place = Endpoint("e", "n", "net", "c", "db-1", ipv4_address="10.0.0.2", dns_names=("db-1",))
    directory.add(place)
    linked = Endpoint("f", "n", "net", "d", "web", links={"database": "db-1"})
    plain = Endpoint("g", "n", "net", "x", "api")
    assert directory.endpoints([linked], "database") == (place,)
    assert directory.endpoints([plain], "database") == ()
    assert directory.name_of([plain], "10.0.0.2") == "db-1.net"
    directory.remove(place)
    assert directory.endpoints([plain], "db-1") == ()


async def test_many_replicas_are_told_in_changing_order_and_whole_by_tcp(machine: Machine) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)
    for number in range(100):
        names = (f"web-{number}", "web", *(("few",) if number < 4 else ()))
        machine.networks._directory.add(
            Endpoint(
                f"e{number}",
                front.id,
                front.name,
                f"c{number}",
                f"web-{number}",
                ipv4_address=f"172.18.9.{number}",
                dns_names=names,
            )
        )
    cut = await ask(asking, "web")
    assert cut.header.tc == 1
    assert len(answers(await ask(asking, "web", tcp=True))) == 100
    replies = [await ask(asking, "few") for _ in range(20)]
    assert {len(answers(reply)) for reply in replies} == {4}
    # By lot: that all of them say the same happens once in 24 to the 19th.
    assert len({tuple(str(each.rdata) for each in reply.rr) for reply in replies}) > 1
    # A type that nobody asked us to keep is no reason to ask others.
    async with resolver(machine, says("192.0.2.7")) as own:
        reply = await ask(asking, "few", "MX")
        assert (code(reply), answers(reply), own.asked) == ("NOERROR", set(), [])


async def test_next_resolver_is_asked_when_one_is_down(machine: Machine) -> None:
    front = await machine.network("front")
    asking = await machine.container("asking", front)
    async with resolver(machine, says("192.0.2.7")) as own:
        conf = machine.root / "resolv.conf"
        conf.write_text("nameserver 127.0.0.9\nnameserver 127.0.0.1\n")
        assert answers(await ask(asking, "example.test")) == {"192.0.2.7"}
        assert own.asked == ["example.test."]


async def test_name_service_is_for_its_container_only(machine: Machine) -> None:
    """Neither the host's other containers nor its neighbours find an open resolver."""
    client = machine.neighbour()
    client.run(lambda: add_default_route("10.9.0.1"))
    front = await machine.network("front")
    one = await machine.container("one", front)
    two = await machine.container("two", front)
    query = DNSRecord.question("two").pack()

    def asked(address: str, port: int) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            handle.settimeout(0.2)
            try:
                handle.connect((address, port))
                handle.send(query)
                return bool(handle.recv(512))
            except OSError:
                return False

    port = one.dns[0].getsockname()[1]
    assert await asyncio.to_thread(one.namespace.run, lambda: asked("127.0.0.11", port))
    for where in (two.namespace, client):
        for target in ((one.address, 53), (one.address, port), ("10.9.0.1", 53)):
            assert not await asyncio.to_thread(where.run, lambda target=target: asked(*target))
