"""Networks whole, with real namespaces for the host, its neighbours and the containers."""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import Conflict, Failure, Forbidden, InvalidRequest, NotFound
from engine.networks import links
from engine.networks.firewall import Firewall
from engine.networks.firewall_rules import (
    PublishedPort,
    make_tables,
)
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    OPTION_ICC,
    OPTION_MTU,
    OPTION_TRUSTED,
    AddressPool,
    EndpointRequest,
    Network,
    NetworkSpec,
    PortRequest,
    Standing,
)
from engine.networks.netlink_socket import NETFILTER, NetlinkSocket
from engine.networks.nft import DnatFrom, Rule
from engine.networks.nft_message import replace_table, transaction
from engine.networks.operations import Networks
from tests.engine.networks.conftest import (
    TAG,
    Container,
    Listener,
    Machine,
    Namespace,
    add_default_route,
    is_silent,
    reaches,
    visit,
)

pytestmark = pytest.mark.kernel


def bridges() -> set[str]:
    return {name for name in os.listdir("/proc/sys/net/ipv4/conf") if name[:3] in ("br-", "pyc")}


def firewall_names() -> tuple[str, ...]:
    firewall = Firewall("someone")
    try:
        return firewall.others()
    finally:
        firewall.close()


def published(tag: str = TAG) -> set[tuple[str, int]]:
    firewall = Firewall(tag)
    try:
        return {(port.host_ip, port.host_port) for port in firewall.published()}
    finally:
        firewall.close()


def answering(namespace: Namespace, address: str, port: int) -> bool:
    return namespace.run(lambda: reaches(address, port))


def silent(namespace: Namespace, address: str, port: int) -> bool:
    return namespace.run(lambda: is_silent(address, port))


async def test_containers_of_a_network_reach_each_other(machine: Machine) -> None:
    front = await machine.network("front")
    one = await machine.container("one", front)
    two = await machine.container("two", front)
    with Listener(two.namespace, 80):
        assert one.namespace.run(lambda: visit(two.address, 80)) == one.address


async def test_published_port_is_reached_from_everywhere(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    back = await machine.network("back")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    beside = await machine.container("beside", front)
    other = await machine.container("other", back)
    with Listener(web.namespace, 80):
        # The source of an outside client is kept.
        assert client.run(lambda: visit("10.9.0.1", 8080)) == "10.9.0.2"
        assert visit("10.9.0.1", 8080)
        assert visit("127.0.0.1", 8080)
        assert visit("127.0.0.1", 8080)
        for container in (web, beside, other):
            assert answering(container.namespace, "10.9.0.1", 8080), container.name
    await machine.networks.leave(web.id)
    with Listener(web.namespace, 80):
        assert silent(client, "10.9.0.1", 8080)


async def test_udp_port_is_published(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    wish = PortRequest(53, "udp", host_port=5353)
    web = await machine.container("web", front, ports=(wish,))

    def receiver() -> socket.socket:
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handle.bind(("0.0.0.0", 53))
        handle.settimeout(5)
        return handle

    with web.namespace.run(receiver) as server:

        def ask(address: str) -> Callable[[], socket.socket]:
            def send() -> socket.socket:
                handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                handle.settimeout(5)
                handle.connect((address, 5353))
                handle.send(b"question")
                return handle

            return send

        for namespace, address in ((client, "10.9.0.1"), (None, "127.0.0.1")):
            send = ask(address)
            with namespace.run(send) if namespace else send() as asking:
                data, peer = server.recvfrom(100)
                server.sendto(b"answer to " + data, peer)
                assert asking.recv(100) == b"answer to question"


async def test_udp_client_that_goes_on_sending_reaches_the_next_container(
    machine: Machine,
) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    wish = PortRequest(53, "udp", host_port=5353)

    def receiver() -> socket.socket:
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handle.bind(("0.0.0.0", 53))
        handle.settimeout(5)
        return handle

    sending = client.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with sending:
        sending.connect(("10.9.0.1", 5353))
        sending.send(b"too early")
        for name in ("one", "two"):
            container = await machine.container(name, front, ports=(wish,))
            with container.namespace.run(receiver) as server:
                with contextlib.suppress(ConnectionRefusedError):
                    sending.send(b"to " + name.encode())
                sending.send(b"to " + name.encode())
                assert server.recv(100) == b"to " + name.encode()
            await machine.networks.leave(container.id)


async def test_port_of_loopback_is_only_there(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    wish = PortRequest(80, host_ip="127.0.0.1", host_port=8080)
    web = await machine.container("web", front, ports=(wish,))
    other = await machine.container("other", front)
    with Listener(web.namespace, 80):
        assert visit("127.0.0.1", 8080)
        assert is_silent("10.9.0.1", 8080)
        assert silent(client, "10.9.0.1", 8080)
        assert silent(other.namespace, "10.9.0.1", 8080)
        # CVE-2020-8558: a neighbour or a container that sends 127.0.0.1 to this host.
        Path("/proc/sys/net/ipv4/conf/lan0/route_localnet").write_text("1")
        gateway = front.pools[0].gateway
        for namespace, host in ((client, "10.9.0.1"), (other.namespace, gateway)):
            namespace.run(lambda host=host: route_loopback_to(host))  # type: ignore[misc]
            assert silent(namespace, "127.0.0.1", 8080)


def route_loopback_to(gateway: str) -> None:
    from pyroute2 import IPRoute

    Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1")
    with IPRoute() as route:
        route.addr("del", index=1, address="127.0.0.1", prefixlen=8)
        route.route("add", dst="127.0.0.1/32", gateway=gateway)


async def test_port_of_one_address_wins_over_all_addresses(machine: Machine) -> None:
    machine.neighbour("10.9.0")
    machine.neighbour("10.9.1")
    front = await machine.network("front")
    wishes = tuple(PortRequest(80, host_ip=f"10.9.{n}.1", host_port=8080) for n in (0, 1))
    one = await machine.container("one", front, ports=wishes[:1])
    two = await machine.container("two", front, ports=wishes[1:])
    with Listener(one.namespace, 80):
        assert reaches("10.9.0.1", 8080)
        assert is_silent("10.9.1.1", 8080)
    with Listener(two.namespace, 80):
        assert reaches("10.9.1.1", 8080)


async def test_container_reaches_the_outside_under_the_host_address(machine: Machine) -> None:
    outside = machine.neighbour()
    front = await machine.network("front")
    one = await machine.container("one", front)
    with Listener(outside, 80):
        assert one.namespace.run(lambda: visit("10.9.0.2", 80)) == "10.9.0.1"


async def test_networks_do_not_reach_each_other(machine: Machine) -> None:
    front = await machine.network("front")
    back = await machine.network("back")
    one = await machine.container("one", front)
    two = await machine.container("two", back)
    three = await machine.container("three", machine.networks.get("bridge"))
    with Listener(one.namespace, 80), Listener(two.namespace, 80), Listener(three.namespace, 80):
        for here in (one, two, three):
            for there in (one, two, three):
                if here is not there:
                    assert silent(here.namespace, there.address, 80), (here, there)
        assert reaches(one.address, 80)  # the host reaches all


async def test_neighbour_does_not_reach_unpublished_ports(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    client.run(lambda: add_default_route("10.9.0.1"))
    with Listener(web.namespace, 80), Listener(web.namespace, 81):
        assert answering(client, "10.9.0.1", 8080)
        assert silent(client, web.address, 81)
        assert silent(client, web.address, 80)


async def test_forwarding_between_others_stays_off(machine: Machine) -> None:
    one = machine.neighbour("10.9.0")
    two = machine.neighbour("10.9.1")
    assert not links.forwarding()
    await machine.network("front")
    assert links.forwarding()
    one.run(lambda: add_default_route("10.9.0.1"))
    two.run(lambda: add_default_route("10.9.1.1"))
    with Listener(two, 80):
        assert silent(one, "10.9.1.2", 80)


async def test_internal_network_has_no_way_in_or_out(machine: Machine) -> None:
    outside = machine.neighbour()
    data = await machine.network("data", internal=True)
    front = await machine.network("front")
    store = await machine.container("store", data)
    peer = await machine.container("peer", data)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    assert store.endpoints[0].gateway == ""
    host = Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    listening = (Listener(outside, 80), Listener(store.namespace, 80), Listener(host, 81))
    with listening[0], listening[1], listening[2], Listener(web.namespace, 80):
        assert answering(peer.namespace, store.address, 80)
        assert reaches(store.address, 80)
        assert silent(web.namespace, store.address, 80)
        # Also with a route made by hand.
        gateway = data.pools[0].gateway
        store.namespace.run(lambda: add_default_route(gateway))
        assert silent(store.namespace, "10.9.0.2", 80)
        assert silent(store.namespace, "10.9.0.1", 81)
        assert silent(store.namespace, gateway, 81)
        assert silent(store.namespace, "10.9.0.1", 8080)
        assert silent(store.namespace, web.address, 80)
    host.close()


async def test_containers_can_be_kept_apart_in_one_network(machine: Machine) -> None:
    apart = await machine.network("apart", options={OPTION_ICC: "false"})
    one = await machine.container("one", apart)
    two = await machine.container("two", apart)
    with Listener(two.namespace, 80):
        assert silent(one.namespace, two.address, 80)
        assert reaches(two.address, 80)


async def test_default_route_follows_priority_then_name(machine: Machine) -> None:
    outside = machine.neighbour()
    zoo = await machine.network("zoo")
    ant = await machine.network("ant")
    one = await machine.container("one", zoo, ant)
    assert [each.ifname for each in one.endpoints] == ["eth0", "eth1"]
    with Listener(outside, 80):
        assert answering(one.namespace, "10.9.0.2", 80)
    route = one.namespace.run(lambda: Path("/proc/thread-self/net/route").read_text())
    assert default_interface(route) == "eth1"


def default_interface(table: str) -> str:
    rows = [line.split() for line in table.splitlines()[1:]]
    (found,) = (row[0] for row in rows if row[1] == "00000000")
    return found


async def test_network_is_connected_and_disconnected_while_a_container_runs(
    machine: Machine,
) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    back = await machine.network("back")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    data = await machine.container("data", back)
    place = machine.networks.allocate(back, EndpointRequest(web.id, "web"))
    assert place.ifname == "eth1"
    await machine.networks.connect(web.id, place, web.sockets())
    with Listener(data.namespace, 80), Listener(web.namespace, 80):
        assert answering(web.namespace, data.address, 80)
        assert answering(client, "10.9.0.1", 8080)
        # The published port moves to the network that is left.
        await machine.networks.disconnect(web.id, front.id, web.sockets())
        assert answering(client, "10.9.0.1", 8080)
        assert [each.name for each in machine.networks.list() if each.name == "front"]
    await machine.networks.remove("front")
    with pytest.raises(Failure, match="is not connected to network back"):
        await machine.networks.disconnect("f" * 64, back.id, web.sockets())


async def test_everything_goes_on_after_a_crash(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    wishes = (PortRequest(80, host_port=8080), PortRequest(81))
    web = await machine.container("web", front, ports=wishes, aliases=("www",))
    asking = await machine.container("asking", front)
    gone = await machine.container("gone", front, ports=(PortRequest(80, host_port=9090),))
    before = published()
    machine.crash()
    with Listener(web.namespace, 80):
        assert answering(client, "10.9.0.1", 8080)
        assert visit("127.0.0.1", 8080)
        machine.containers.remove(gone)
        machine.networks = await Networks.open(machine.root, name=TAG)
        assert published() == before  # there is no moment without
        for each in machine.containers:
            await machine.networks.adopt(each.id, each.endpoints, each.sockets(), each.ports)
        assert ("0.0.0.0", 9090) in published()
        await machine.networks.settle()
        assert published() == before - {("0.0.0.0", 9090)}
        assert answering(client, "10.9.0.1", 8080)
    assert machine.networks.get("front") == front
    assert await asyncio.to_thread(asking.namespace.run, lambda: resolve("www")) == [web.address]
    with pytest.raises(Failure, match="port is already allocated"):
        machine.networks.reserve_ports("x", (PortRequest(80, host_port=8080),))
    fresh = await machine.container("fresh", front)
    assert fresh.address not in (web.address, asking.address)


def resolve(name: str, kind: int = 1) -> list[str]:
    """The addresses that 127.0.0.11:53 answers with, in order."""
    question = b"".join(bytes([len(part)]) + part.encode() for part in name.split(".")) + b"\0"
    query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + question + struct.pack("!HH", kind, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        handle.settimeout(5)
        handle.connect(("127.0.0.11", 53))
        handle.send(query)
        reply = handle.recv(4096)
    count = struct.unpack_from("!H", reply, 6)[0]
    rest, found = reply[len(query) :], []
    for _ in range(count):
        found.append(socket.inet_ntoa(rest[12:16]))
        rest = rest[16:]
    return sorted(found)


async def test_table_of_an_older_daemon_is_taken_over(machine: Machine) -> None:
    front = await machine.network("front")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    machine.crash()
    # What a version wrote that knew of IPv4 and ports with one owner only.
    with NetlinkSocket.open(NETFILTER) as netfilter:
        (table,) = make_tables(
            TAG, [front], [PublishedPort("tcp", "0.0.0.0", 8080, web.address, 80)]
        )
        chains = [
            replace(chain, rules=tuple(rule for rule in chain.rules if not _is_new(rule)))
            for chain in table.chains
        ]
        old = replace(table, maps=table.maps[:2], chains=tuple(chains))
        netfilter.batch(transaction(replace_table(old)))
    await machine.restart()
    with Listener(web.namespace, 80):
        assert reaches("127.0.0.1", 8080)


def _is_new(rule: Rule) -> bool:
    return any(isinstance(part, DnatFrom) and part.spread for part in rule)


async def test_missing_links_and_bridges_are_put_back(machine: Machine) -> None:
    front = await machine.network("front")
    one = await machine.container("one", front)
    two = await machine.container("two", front)
    machine.crash()
    from pyroute2 import IPRoute

    def damage() -> None:
        with IPRoute() as route:
            for name in (one.endpoints[0].host_ifname, front.bridge):
                route.link("del", index=route.link_lookup(ifname=name)[0])

    await asyncio.to_thread(damage)
    await machine.restart()
    with Listener(two.namespace, 80):
        assert answering(one.namespace, two.address, 80)


async def test_leftover_bridge_is_removed_at_start(machine: Machine) -> None:
    front = await machine.network("front")
    machine.crash()
    (machine.root / f"{front.id}.json").unlink()
    await machine.restart()
    assert bridges() == set()


async def test_retiring_leaves_nothing(machine: Machine) -> None:
    front = await machine.network("front")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    low = await machine.container("low", machine.networks.get("bridge"))
    assert len(bridges()) == 2
    for container in (web, low):
        await machine.networks.leave(container.id)
    await machine.networks.retire()
    assert bridges() == set()
    assert firewall_names() == ()
    assert not links.forwarding()
    # The user's network is still known and works again.
    await machine.networks.close()
    await machine.restart_empty()
    assert machine.networks.get("front").id == front.id
    again = await machine.container("again", machine.networks.get("front"))
    with Listener(again.namespace, 80):
        assert reaches(again.address, 80)


async def test_idle_engine_has_no_bridge_and_no_table(machine: Machine) -> None:
    assert [each.name for each in machine.networks.list()] == ["bridge", "host", "none"]
    assert bridges() == set()
    assert firewall_names() == ()
    assert not links.forwarding()


async def test_two_engines_share_a_host(machine: Machine, tmp_path: Path) -> None:
    client = machine.neighbour()
    other = Machine(tmp_path / "other")
    other.networks = await Networks.open(other.root, name="0ther")
    try:
        first = await machine.container(
            "web", machine.networks.get("bridge"), ports=(PortRequest(80, host_port=8080),)
        )
        wish = PortRequest(80, host_port=8081)
        second = await other.container("web", other.networks.get("bridge"), ports=(wish,))
        assert first.address.rsplit(".", 2)[0] != second.address.rsplit(".", 2)[0]
        with Listener(first.namespace, 80), Listener(second.namespace, 80):
            assert answering(client, "10.9.0.1", 8080)
            assert answering(client, "10.9.0.1", 8081)
            assert silent(first.namespace, second.address, 80)
            assert answering(first.namespace, "10.9.0.1", 8081)
            with pytest.raises(Failure, match="address already in use"):
                other.networks.reserve_ports("x", (PortRequest(80, host_port=8080),))
            await machine.networks.leave(first.id)
            await machine.networks.retire()
            assert answering(client, "10.9.0.1", 8081)
    finally:
        await other.networks.leave(second.id)
        await other.networks.retire()
        await other.networks.close()
        for namespace in other.namespaces:
            namespace.close()
        other.undo.close()


async def test_network_that_cannot_be_is_refused(machine: Machine) -> None:
    networks = machine.networks
    named = {OPTION_BRIDGE_NAME: "wide0"}
    await machine.network("front", pools=(AddressPool("10.5.0.0/16"),), options=named)
    refusals = [
        (Forbidden, "networks have same bridge name", NetworkSpec("x", options=named)),
        (Conflict, "network with name front already exists", NetworkSpec("front")),
        (Forbidden, "Pool overlaps", NetworkSpec("x", pools=(AddressPool("10.5.1.0/24"),))),
        (Forbidden, "predefined host network", NetworkSpec("host")),
        (NotFound, 'plugin "foo" not found', NetworkSpec("x", driver="foo")),
        (NotFound, 'network "nosuch" not found', NetworkSpec("x", config_from="nosuch")),
        (
            InvalidRequest,
            "invalid interface",
            NetworkSpec("x", options={OPTION_BRIDGE_NAME: "a/b"}),
        ),
        (Failure, "exists already", NetworkSpec("x", options={OPTION_BRIDGE_NAME: "lo"})),
    ]
    for kind, words, spec in refusals:
        with pytest.raises(kind, match=words):
            await networks.create(spec)
    assert [each.name for each in networks.list()] == ["bridge", "host", "none", "front"]
    assert len(list(machine.root.glob("*.json"))) == 4


def called(bridge: str) -> NetworkSpec:
    return NetworkSpec("x", options={OPTION_BRIDGE_NAME: bridge})


async def test_configuration_network_is_a_template(machine: Machine) -> None:
    pools = (AddressPool("10.5.0.0/16"),)
    options = {OPTION_MTU: "1400"}
    conf = await machine.network("conf", pools=pools, options=options, config_only=True)
    assert (conf.driver, conf.bridge) == ("null", "")
    with pytest.raises(Forbidden, match="configuration-only network"):
        machine.networks.allocate(conf, EndpointRequest("c" * 64, "c"))
    front = await machine.network("front", config_from="conf")
    assert front.options == options
    one = await machine.container("one", front)
    assert one.address == "10.5.0.2"
    machine.crash()
    await machine.restart()
    with pytest.raises(Forbidden, match='removing network: configuration network "conf" is in use'):
        await machine.networks.remove("conf")
    await machine.networks.leave(one.id)
    await machine.networks.remove("front")
    await machine.networks.remove("conf")


async def test_trusted_interface_reaches_published_ports_at_the_container(
    machine: Machine,
) -> None:
    client, stranger = machine.neighbour(), machine.neighbour("10.10.1")
    options = {OPTION_TRUSTED: "lan0:other0"}
    pools = (AddressPool("10.5.0.0/24"),)
    front = await machine.network("front", pools=pools, options=options)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    client.run(lambda: add_default_route("10.9.0.1"))
    stranger.run(lambda: add_default_route("10.10.1.1"))
    with Listener(web.namespace, 80), Listener(web.namespace, 81):
        assert client.run(lambda: visit(web.address, 80)) == "10.9.0.2"
        assert client.run(lambda: is_silent(web.address, 81))
        assert stranger.run(lambda: is_silent(web.address, 80))
        machine.crash()
        await machine.restart()
        assert client.run(lambda: visit(web.address, 80)) == "10.9.0.2"
        assert stranger.run(lambda: visit("10.9.0.1", 8080)) == "10.10.1.2"


async def test_networks_are_found_by_name_id_and_prefix(machine: Machine) -> None:
    front = await machine.network("a front")
    for reference in ("a front", front.id, front.id[:12]):
        assert machine.networks.get(reference) == front
    with pytest.raises(NotFound, match="network back not found"):
        machine.networks.get("back")


async def test_network_in_use_is_not_removed(machine: Machine) -> None:
    front = await machine.network("front")
    one = await machine.container("one", front)
    with pytest.raises(Forbidden, match="network front has active endpoints"):
        await machine.networks.remove("front")
    with pytest.raises(Forbidden, match="pre-defined"):
        await machine.networks.remove("bridge")
    assert await machine.networks.prune(lambda _: True) == ()
    await machine.networks.leave(one.id)
    assert await machine.networks.prune(lambda _: True) == (front,)
    async with asyncio.timeout(10):  # the kernel takes its time, and nobody waits for it
        while bridges():
            await asyncio.sleep(0.01)


async def test_what_a_removed_network_had_is_free_at_once(machine: Machine) -> None:
    pool = AddressPool("10.5.0.0/24")
    options = {OPTION_BRIDGE_NAME: "br-again"}
    for _ in range(3):
        again = await machine.networks.create(NetworkSpec("again", pools=(pool,), options=options))
        assert bridges() == {"br-again"}
        await machine.networks.remove(again.id)


async def test_addresses_are_given_and_refused(machine: Machine) -> None:
    pool = AddressPool("10.5.0.0/24", ip_range="10.5.0.128/30", auxiliary={"x": "10.5.0.129"})
    front = await machine.network("front", pools=(pool,))
    assert front.pools[0].gateway == "10.5.0.128"
    given = [machine.networks.allocate(front, EndpointRequest(c, c)) for c in ("a", "b")]
    assert [each.ipv4_address for each in given] == ["10.5.0.130", "10.5.0.131"]
    assert given[0].mac_address == "02:42:0a:05:00:82"
    with pytest.raises(Failure, match="no available IPv4 addresses"):
        machine.networks.allocate(front, EndpointRequest("c", "c"))
    with pytest.raises(Forbidden, match="Address already in use"):
        machine.networks.allocate(front, EndpointRequest("c", "c", ipv4_address="10.5.0.130"))
    with pytest.raises(Forbidden, match="endpoint with name a already exists in network front"):
        machine.networks.allocate(front, EndpointRequest("a", "a"))
    for container in "ab":
        await machine.networks.leave(container)
    assert machine.networks.allocate(front, EndpointRequest("c", "c")).ipv4_address


async def test_firewall_comes_back_when_another_program_flushes_it(machine: Machine) -> None:
    front = await machine.network("front")
    await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    before = published()
    with contextlib.closing(Firewall(TAG)) as other:
        other.remove()
        async with asyncio.timeout(10):
            while not other.present():
                await asyncio.sleep(0.01)
    assert published() == before


async def test_failed_join_leaves_no_port_and_no_name(machine: Machine) -> None:
    front = await machine.network("front")
    wish = PortRequest(80, host_port=8080)
    web = await machine.container("web", front, ports=(wish,))
    with pytest.raises(Failure, match="cannot create the link"):
        await machine.networks.join(web.id, web.endpoints, web.sockets(), web.ports)
    await machine.networks.leave(web.id)
    await machine.networks.leave(web.id)
    assert published() == set()
    assert machine.networks.reserve_ports("x", (wish,))
    await machine.networks.leave("x")


async def test_host_and_none_give_places_without_links(machine: Machine) -> None:
    for name in ("host", "none"):
        network: Network = machine.networks.get(name)
        endpoint = machine.networks.allocate(network, EndpointRequest(name, name))
        assert (endpoint.ifname, endpoint.ipv4_address) == ("", "")
        await machine.networks.leave(name)


async def test_renamed_container_is_found_by_its_new_name(machine: Machine) -> None:
    front = await machine.network("front")
    old = await machine.container("old", front)
    asking = await machine.container("asking", front)
    names = {front.id: ("new", "alias")}
    (renamed,) = await machine.networks.rename(old.id, "new", names)
    assert renamed.container_name == "new"
    assert renamed.dns_names == ("new", "alias")
    for name in renamed.dns_names:
        assert await ask(asking, name) == [old.address]


async def ask(container: Container, name: str) -> list[str]:
    return await asyncio.to_thread(container.namespace.run, lambda: resolve(name))


async def hits(machine: Machine, tries: int = 40) -> set[str]:
    """The containers that answer at the host's port 8080."""
    return {await asyncio.to_thread(visit, "127.0.0.1", 8080) for _ in range(tries)}


async def test_shared_port_is_spread_over_the_fit(machine: Machine) -> None:
    front = await machine.network("front")
    wish = PortRequest(80, host_port=8080, shared=True)
    one = await machine.container("one", front, ports=(wish,), aliases=("web",))
    with pytest.raises(Failure, match="port is already allocated"):
        machine.networks.reserve_ports("x", (PortRequest(80, host_port=8080),))
    with Teller(one), contextlib.ExitStack() as listening:
        assert await hits(machine, 3) == {"one"}
        two = await machine.container("two", front, ports=(wish,), aliases=("web",))
        three = await machine.container("three", front, ports=(wish,), aliases=("web",))
        listening.enter_context(Teller(two))
        listening.enter_context(Teller(three))
        # All three stay away from 40 tries once in 10^7 times.
        assert await hits(machine) == {"one", "two", "three"}
        await machine.networks.regard(two.id, Standing.UNFIT)
        assert await hits(machine) == {"one", "three"}
        assert await ask(one, "web") == sorted([one.address, three.address])
        await machine.networks.regard(one.id, Standing.STARTING)
        assert await hits(machine, 10) == {"three"}
        assert await ask(one, "web") == [three.address]
        # Nobody better is left: better them than nobody.
        await machine.networks.leave(three.id)
        assert await hits(machine, 10) == {"one"}
        await machine.networks.leave(one.id)
        assert await hits(machine, 10) == {"two"}
        await machine.networks.regard(two.id, Standing.READY)
        machine.crash()
        machine.containers = [two]
        assert await hits(machine, 3) == {"two"}
        await machine.restart()
        assert await hits(machine, 3) == {"two"}
        assert published() == {("0.0.0.0", 8080)}
        # By ::1 too, which the engine carries.
        assert await asyncio.to_thread(visit, "::1", 8080) == "two"
        again = machine.networks.reserve_ports("y" * 64, (wish,))
        bound = [(port.host_ip, port.host_port) for port in again]
        assert bound == [("0.0.0.0", 8080), ("::", 8080)]
        await machine.networks.leave("y" * 64)
        await machine.networks.leave(two.id)
        assert published() == set()


async def test_shared_port_whose_owners_are_gone_after_a_crash_goes(machine: Machine) -> None:
    front = await machine.network("front")
    wish = PortRequest(80, host_port=8080, shared=True)
    one = await machine.container("one", front, ports=(wish,))
    gone = await machine.container("gone", front, ports=(wish,))
    machine.crash()
    machine.containers = [one]
    await machine.restart()
    with Teller(one):
        assert await hits(machine, 20) == {"one"}
    await machine.networks.leave(one.id)
    assert published() == set()
    assert gone.address


class Teller(Listener):
    """Tells its container's name."""

    def __init__(self, container: Container) -> None:
        self.name = container.name
        super().__init__(container.namespace, 80)

    def greeting(self, peer: str) -> str:
        return self.name


async def test_sctp_port_is_published(machine: Machine) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError as error:
        pytest.skip(f"no SCTP here: {error}")
    client = machine.neighbour()
    front = await machine.network("front")
    web = await machine.container("web", front, ports=(PortRequest(80, "sctp", host_port=8080),))

    def listen() -> socket.socket:
        handle = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
        handle.bind((web.address, 80))
        handle.listen()
        return handle

    def visit_it() -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as handle:
            handle.settimeout(10)
            handle.connect(("10.9.0.1", 8080))
            return handle.recv(100)

    with web.namespace.run(listen) as server:
        server.settimeout(10)
        visiting = asyncio.create_task(asyncio.to_thread(client.run, visit_it))
        connection, peer = await asyncio.to_thread(server.accept)
        with connection:
            connection.send(peer[0].encode())
            assert await visiting == b"10.9.0.2"
