"""IPv6 networks, with real namespaces for the host, its neighbours and the containers."""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Forbidden, InvalidRequest
from engine.networks import link_message as link
from engine.networks import links
from engine.networks.ipam import private_block
from engine.networks.model import (
    OPTION_GATEWAY_MODE,
    OPTION_ICC,
    AddressPool,
    EndpointRequest,
    PortRequest,
)
from engine.networks.netlink_socket import ROUTE, NetlinkSocket
from engine.networks.operations import Networks
from tests.engine.networks.conftest import (
    TAG,
    Container,
    Listener,
    Machine,
    Namespace,
    is_silent,
    reaches,
    visit,
)

pytestmark = pytest.mark.kernel

HERE, NEIGHBOUR = "2001:db8:0::1", "2001:db8:0::2"
SETTINGS = Path("/proc/sys/net/ipv6/conf")


def answering(namespace: Namespace, address: str, port: int) -> bool:
    return namespace.run(lambda: reaches(address, port))


def silent(namespace: Namespace, address: str, port: int) -> bool:
    return namespace.run(lambda: is_silent(address, port))


def listener(container: Container, port: int = 80) -> Listener:
    return Listener(container.namespace, port, "::")


def route_to(subnet: str, gateway: str) -> None:
    """By hand, as a neighbour would."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.route("add", dst=subnet, gateway=gateway)


async def test_network_gets_a_private_subnet_of_the_daemons_own(machine: Machine) -> None:
    front = await machine.network("front", enable_ipv6=True)
    back = await machine.network("back", enable_ipv6=True, enable_ipv4=False)
    block = str(private_block(TAG)).removesuffix("::/48")
    assert [pool.subnet for pool in front.pools] == ["172.18.0.0/16", f"{block}::/64"]
    assert back.pools == (
        AddressPool(f"{block}:1::/64", f"{block}:1::1", subnet_chosen=True, gateway_chosen=True),
    )
    with pytest.raises(Forbidden, match="Pool overlaps"):
        await machine.network("x", enable_ipv6=True, pools=(AddressPool(f"{block}:1::/80"),))
    machine.neighbour()
    with pytest.raises(Forbidden, match="Pool overlaps"):
        await machine.network("x", enable_ipv6=True, pools=(AddressPool("2001:db8::/32"),))


async def test_containers_of_a_network_reach_each_other(machine: Machine) -> None:
    front = await machine.network("front", enable_ipv6=True)
    one = await machine.container("one", front)
    two = await machine.container("two", front)
    with listener(two):
        assert one.namespace.run(lambda: visit(two.address6, 80)) == one.address6
        assert one.namespace.run(lambda: visit(two.address, 80)) == f"::ffff:{one.address}"
        assert reaches(two.address6, 80)


async def test_network_may_do_without_ipv4(machine: Machine) -> None:
    outside = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True, enable_ipv4=False)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    other = await machine.container("other", front)
    assert web.endpoints[0].ipv4_address == ""
    bound = [(port.host_ip, port.host_port) for port in web.ports]
    assert bound == [("0.0.0.0", 8080), ("::", 8080)]
    with listener(web), Listener(outside, 81, "::"):
        # Over from IPv4 the engine carries.
        bridge = front.host_address(6)
        assert await asyncio.to_thread(visit, "127.0.0.1", 8080) == bridge
        assert await asyncio.to_thread(outside.run, lambda: visit("10.9.0.1", 8080)) == bridge
        assert answering(other.namespace, web.address6, 80)
        assert answering(outside, HERE, 8080)
        assert web.namespace.run(lambda: visit(NEIGHBOUR, 81)) == "2001:db8::1"
    assert await ask(other, "web", 28) == [web.address6]
    assert await ask(other, "web", 1) == []


async def test_published_port_is_reached_from_everywhere(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True)
    back = await machine.network("back", enable_ipv6=True)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    beside = await machine.container("beside", front)
    other = await machine.container("other", back)
    assert [(port.host_ip, port.host_port) for port in web.ports] == [
        ("0.0.0.0", 8080),
        ("::", 8080),
    ]
    with listener(web):
        # The source of an outside client is kept.
        assert client.run(lambda: visit(HERE, 8080)) == "2001:db8::2"
        assert client.run(lambda: visit("10.9.0.1", 8080)) == "::ffff:10.9.0.2"
        assert visit(HERE, 8080)
        for container in (web, beside, other):
            assert answering(container.namespace, HERE, 8080), container.name
    await machine.networks.leave(web.id)
    with listener(web):
        assert silent(client, HERE, 8080)


async def test_port_of_one_address_is_only_there(machine: Machine) -> None:
    client = machine.neighbour("10.9.0")
    machine.neighbour("10.9.1")
    front = await machine.network("front", enable_ipv6=True)
    wish = PortRequest(80, host_ip=HERE, host_port=8080)
    web = await machine.container("web", front, ports=(wish,))
    with listener(web):
        assert answering(client, HERE, 8080)
        assert is_silent("2001:db8:1::1", 8080)
        assert is_silent("10.9.0.1", 8080)


@pytest.mark.parametrize("enable_ipv6", [False, True])
async def test_port_of_loopback_is_carried_there_and_only_from_there(
    machine: Machine, enable_ipv6: bool
) -> None:
    client = machine.neighbour()
    front = await machine.network("front", enable_ipv6=enable_ipv6)
    ports = (PortRequest(80, host_ip="::1", host_port=8080), PortRequest(81, host_port=8081))
    web = await machine.container("web", front, ports=ports)
    bridge = front.host_address(6) if enable_ipv6 else f"::ffff:{front.host_address(4)}"
    with listener(web), listener(web, 81):
        for port in (8080, 8081):
            assert await asyncio.to_thread(visit, "::1", port) == bridge
        assert silent(client, HERE, 8080)
        assert is_silent("127.0.0.1", 8080)
        seen = await asyncio.to_thread(client.run, lambda: visit(HERE, 8081))
        assert seen == ("2001:db8::2" if enable_ipv6 else bridge)
        assert client.run(lambda: visit("10.9.0.1", 8081)) == "::ffff:10.9.0.2"
        machine.crash()
        await machine.restart()
        assert await asyncio.to_thread(visit, "::1", 8080) == bridge
        # What is open stays so while others come; an end on one side is told to the other.
        reader, writer = await asyncio.open_connection("::1", 8080)
        assert await asyncio.to_thread(visit, "::1", 8081) == bridge
        assert (await reader.read()).decode() == bridge
        writer.close()
        await machine.networks.leave(web.id)
        assert is_silent("::1", 8080)


async def test_udp_of_loopback_is_carried(machine: Machine) -> None:
    front = await machine.network("front")
    wish = PortRequest(53, "udp", host_ip="::1", host_port=5353)
    web = await machine.container("web", front, ports=(wish,))

    def receiver() -> socket.socket:
        handle = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        handle.bind(("0.0.0.0", 53))
        handle.setblocking(False)
        return handle

    loop = asyncio.get_running_loop()
    with (
        web.namespace.run(receiver) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as two,
    ):
        for asking in (one, two):
            asking.setblocking(False)
            asking.connect(("::1", 5353))
        async with asyncio.timeout(5):
            for asking, word in ((one, b"one"), (two, b"two"), (one, b"again")):
                await loop.sock_sendall(asking, word)
                question, peer = await loop.sock_recvfrom(server, 100)
                assert (question, peer[0]) == (word, front.host_address(4))
                await loop.sock_sendto(server, question.upper(), peer)
                assert await loop.sock_recv(asking, 100) == word.upper()


async def test_udp_port_is_published_and_moves(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True)
    wish = PortRequest(53, "udp", host_port=5353)

    def receiver() -> socket.socket:
        handle = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        handle.bind(("::", 53))
        handle.settimeout(5)
        return handle

    asking = client.run(lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
    with asking:
        asking.settimeout(5)
        asking.connect((HERE, 5353))
        for name in ("one", "two"):
            container = await machine.container(name, front, ports=(wish,))
            with container.namespace.run(receiver) as server:
                asking.send(b"question")
                question, peer = server.recvfrom(100)
                assert peer[0] == "2001:db8::2"
                server.sendto(name.encode() + b" heard " + question, peer)
                assert asking.recv(100) == name.encode() + b" heard question"
            await machine.networks.leave(container.id)


async def test_networks_do_not_reach_each_other(machine: Machine) -> None:
    front = await machine.network("front", enable_ipv6=True)
    back = await machine.network("back", enable_ipv6=True)
    one = await machine.container("one", front)
    two = await machine.container("two", back)
    with listener(one), listener(two):
        assert silent(one.namespace, two.address6, 80)
        assert silent(two.namespace, one.address6, 80)


async def test_neighbour_does_not_reach_unpublished_ports(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    client.run(lambda: route_to(front.pools[1].subnet, HERE))
    with listener(web), listener(web, 81):
        assert answering(client, HERE, 8080)
        assert silent(client, web.address6, 81)
        assert silent(client, web.address6, 80)


async def test_internal_network_has_no_way_in_or_out(machine: Machine) -> None:
    outside = machine.neighbour()
    data = await machine.network("data", enable_ipv6=True, internal=True)
    front = await machine.network("front", enable_ipv6=True)
    store = await machine.container("store", data)
    peer = await machine.container("peer", data)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    assert store.endpoints[0].ipv6_gateway == ""
    host = Namespace(os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    with Listener(outside, 80, "::"), listener(store), Listener(host, 81, "::"), listener(web):
        assert answering(peer.namespace, store.address6, 80)
        assert reaches(store.address6, 80)
        gateway = data.pools[1].gateway

        def add_route() -> None:
            with NetlinkSocket.open(ROUTE) as route:
                (found,) = route.request(link.get_link("eth0"))
                route.request(link.default_route(link.index_of(found), gateway))

        store.namespace.run(add_route)
        for address, port in (
            (NEIGHBOUR, 80), (HERE, 81), (gateway, 81), (HERE, 8080), (web.address6, 80)
        ):  # fmt: skip
            assert silent(store.namespace, address, port), (address, port)
    host.close()


async def test_containers_can_be_kept_apart_in_one_network(machine: Machine) -> None:
    options = {OPTION_ICC: "false"}
    apart = await machine.network("apart", enable_ipv6=True, options=options)
    one = await machine.container("one", apart)
    two = await machine.container("two", apart)
    with listener(two):
        assert silent(one.namespace, two.address6, 80)
        assert reaches(two.address6, 80)


async def test_routed_network_is_reached_under_its_own_addresses(machine: Machine) -> None:
    client = machine.neighbour()
    options = {mode: "routed" for mode in OPTION_GATEWAY_MODE.values()}
    pools = (AddressPool("2001:db8:aa::/64"), AddressPool("10.8.0.0/24"))
    front = await machine.network("front", enable_ipv6=True, options=options, pools=pools)
    back = await machine.network("back", enable_ipv6=True)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    other = await machine.container("other", back)
    assert [(port.host_ip, port.host_port) for port in web.ports] == [("0.0.0.0", 0), ("::", 0)]
    client.run(lambda: route_to("2001:db8:aa::/64", HERE))
    client.run(lambda: route_to("10.8.0.0/24", "10.9.0.1"))
    with listener(web), listener(web, 81), Listener(client, 90, "::"):
        assert client.run(lambda: visit(web.address6, 80)) == "2001:db8::2"
        assert client.run(lambda: visit(web.address, 80)) == "::ffff:10.9.0.2"
        assert silent(client, web.address6, 81)
        assert silent(client, web.address, 81)
        assert silent(client, HERE, 8080)
        assert answering(other.namespace, web.address6, 80)
        assert silent(other.namespace, web.address6, 81)
        # It leaves under its own address.
        assert web.namespace.run(lambda: visit(NEIGHBOUR, 90)) == web.address6
        assert web.namespace.run(lambda: visit("10.9.0.2", 90)) == f"::ffff:{web.address}"
        machine.crash()
        await machine.restart()
        assert answering(client, web.address6, 80)
        await machine.networks.leave(web.id)
        assert silent(client, web.address6, 80)


async def test_unprotected_network_is_open_but_for_other_networks(machine: Machine) -> None:
    client = machine.neighbour()
    options = {mode: "nat-unprotected" for mode in OPTION_GATEWAY_MODE.values()}
    front = await machine.network("front", enable_ipv6=True, options=options)
    back = await machine.network("back", enable_ipv6=True)
    web = await machine.container("web", front)
    other = await machine.container("other", back)
    client.run(lambda: route_to(front.pools[1].subnet, HERE))
    with listener(web), Listener(client, 90, "::"):
        assert answering(client, web.address6, 80)
        assert silent(other.namespace, web.address6, 80)
        assert web.namespace.run(lambda: visit(NEIGHBOUR, 90)) == "2001:db8::1"


async def test_host_has_no_address_in_an_isolated_network(machine: Machine) -> None:
    options = {mode: "isolated" for mode in OPTION_GATEWAY_MODE.values()}
    alone = await machine.network("alone", enable_ipv6=True, internal=True, options=options)
    one = await machine.container("one", alone)
    two = await machine.container("two", alone)
    assert await asyncio.to_thread(addresses_of, alone.bridge) == set()
    with listener(one):
        assert answering(two.namespace, one.address6, 80)
        assert answering(two.namespace, one.address, 80)


def addresses_of(interface: str) -> set[str]:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        (index,) = route.link_lookup(ifname=interface)
        return {str(each.get("address")) for each in route.get_addr(index=index)}


async def test_bridges_listen_to_no_router_and_plain_ones_have_no_ipv6(machine: Machine) -> None:
    front = await machine.network("front", enable_ipv6=True)
    plain = await machine.network("plain")
    found = {
        (network.name, setting): (SETTINGS / network.bridge / setting).read_text().strip()
        for network in (front, plain)
        for setting in ("accept_ra", "disable_ipv6")
    }
    assert found == {
        ("front", "accept_ra"): "0",
        ("front", "disable_ipv6"): "0",
        ("plain", "accept_ra"): "0",
        ("plain", "disable_ipv6"): "1",
    }
    container = await machine.container("container", plain)
    inside = await asyncio.to_thread(container.namespace.run, lambda: addresses_of("eth0"))
    assert inside == {container.address}


async def test_host_goes_on_listening_to_its_routers(machine: Machine) -> None:
    """Forwarding would make it deaf to them: its own addresses and default route would go."""
    one = machine.neighbour("10.9.0")
    two = machine.neighbour("10.9.1")
    await machine.network("plain")
    assert not links.forwarding(6)
    await machine.network("front", enable_ipv6=True)
    assert links.forwarding(6)
    assert (SETTINGS / "lan0/accept_ra").read_text().strip() == "2"
    # And still nothing is forwarded between the interfaces that were there.
    one.run(lambda: route_to("2001:db8:1::/64", HERE))
    two.run(lambda: route_to("2001:db8:0::/64", "2001:db8:1::1"))
    with Listener(two, 80, "::"):
        assert silent(one, "2001:db8:1::2", 80)
    machine.crash()
    await machine.restart()
    await machine.networks.retire()
    assert not links.forwarding(6)
    assert (SETTINGS / "lan0/accept_ra").read_text().strip() == "1"


async def test_everything_goes_on_after_a_crash(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True)
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    other = await machine.container("other", front)
    machine.crash()
    with listener(web):
        assert answering(client, HERE, 8080)
        machine.networks = await Networks.open(machine.root, name=TAG)
        assert answering(client, HERE, 8080)
        for each in machine.containers:
            await machine.networks.adopt(each.id, each.endpoints, each.sockets(), each.ports)
        await machine.networks.settle()
        assert answering(client, HERE, 8080)
    fresh = await machine.container("fresh", front)
    assert fresh.address6 not in (web.address6, other.address6)


async def test_names_are_found_in_both_directions(machine: Machine) -> None:
    pools = (AddressPool("fd00:1::/64"),)
    front = await machine.network("front", enable_ipv6=True, pools=pools)
    wish = "fd00:1::42"
    with pytest.raises(InvalidRequest, match="contain the IP address"):
        await machine.container("bad", front, ipv6_address="fd00:ffff::42")
    machine.containers.pop()
    web = await machine.container("web", front, ipv6_address=wish)
    asking = await machine.container("asking", front)
    assert web.address6 == wish
    assert await ask(asking, "web", 28) == [wish]
    assert await ask(asking, "web", 1) == [web.address]
    found = await asyncio.to_thread(asking.namespace.run, pointer_of(wish))
    assert found == "web.front"


async def ask(container: Container, name: str, kind: int) -> list[str]:
    from dnslib import DNSRecord

    def query() -> list[str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            handle.settimeout(5)
            handle.connect(("127.0.0.11", 53))
            handle.send(DNSRecord.question(name, {1: "A", 28: "AAAA"}[kind]).pack())
            return [str(each.rdata) for each in DNSRecord.parse(handle.recv(4096)).rr]

    return await asyncio.to_thread(container.namespace.run, query)


def pointer_of(address: str) -> Callable[[], str]:
    from ipaddress import ip_address

    from dnslib import DNSRecord

    def query() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
            handle.settimeout(5)
            handle.connect(("127.0.0.11", 53))
            handle.send(DNSRecord.question(ip_address(address).reverse_pointer, "PTR").pack())
            (found,) = DNSRecord.parse(handle.recv(4096)).rr
            return str(found.rdata).rstrip(".")

    return query


async def test_way_out_follows_the_network_that_is_left(machine: Machine) -> None:
    outside = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True)
    plain = await machine.network("back")
    web = await machine.container("web", plain, ports=(PortRequest(80, host_port=8080),))
    place = machine.networks.allocate(front, EndpointRequest(web.id, "web"))
    await machine.networks.connect(web.id, place, web.sockets())
    with Listener(outside, 80, "::"), listener(web):
        assert web.namespace.run(lambda: visit(NEIGHBOUR, 80)) == "2001:db8::1"
        assert answering(outside, "10.9.0.1", 8080)
        await machine.networks.disconnect(web.id, plain.id, web.sockets())
        assert web.namespace.run(lambda: visit("10.9.0.2", 80)) == "::ffff:10.9.0.1"
        await machine.networks.disconnect(web.id, front.id, web.sockets())
        assert silent(web.namespace, NEIGHBOUR, 80)
