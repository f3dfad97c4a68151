"""Macvlan and ipvlan networks on a host interface that leads to a neighbour."""

import socket

import pytest

from engine.errors import EngineError, Failure
from engine.networks import link_message as link
from engine.networks.model import AddressPool, EndpointRequest, NetworkSpec, PortRequest
from engine.networks.netlink_socket import ROUTE, NetlinkError, NetlinkSocket
from tests.engine.networks.conftest import Listener, Machine, Namespace, is_silent, reaches, visit
from tests.engine.networks.test_ipv6 import ask

pytestmark = pytest.mark.kernel
POOL = AddressPool("10.30.0.0/24", "10.30.0.2", ip_range="10.30.0.128/25")


DRIVERS = {"macvlan": link.Kind("macvlan", 4), "ipvlan": link.Kind("ipvlan", 0)}


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def neighbour(machine: Machine, driver: str) -> Namespace:
    """At 10.30.0.2, by the host's interface wire0. Skips where the kernel lacks the driver."""
    other = machine.namespace()
    with NetlinkSocket.open(ROUTE) as route:
        pair = link.create_veth(
            host_ifname="wire0",
            bridge_index=0,
            mtu=0,
            namespace=other.descriptor,
            ifname="eth0",
            mac_address="02:00:00:00:07:02",
        )
        route.request(pair)
        (found,) = route.request(link.get_link("wire0"))
        trial = link.create_on_parent(
            DRIVERS[driver],
            parent=link.index_of(found),
            namespace=other.descriptor,
            ifname="trial0",
            mac_address="",
            mtu=0,
        )
        try:
            route.request(trial)
        except NetlinkError as error:
            pytest.skip(f"no {driver} here: {error}")

    def inside() -> None:
        with NetlinkSocket.open(ROUTE) as route:
            (found,) = route.request(link.get_link("eth0"))
            index = link.index_of(found)
            route.request(link.set_up("eth0", index), link.add_address(index, "10.30.0.2", 24))

    other.run(inside)
    return other


async def test_containers_are_hosts_of_their_own_beside_this_one(
    machine: Machine, neighbour: Namespace, driver: str
) -> None:
    options = {"parent": "wire0"}
    lan = await machine.network("lan", driver=driver, pools=(POOL,), options=options)
    front = await machine.network("front")
    web = await machine.container("web", lan, ports=(PortRequest(80, host_port=8080),))
    other = await machine.container("other", lan)
    assert web.address == "10.30.0.128"
    assert web.ports == ()
    with Listener(web.namespace, 80), Listener(neighbour, 90):
        assert neighbour.run(lambda: visit(web.address, 80)) == "10.30.0.2"
        assert web.namespace.run(lambda: visit("10.30.0.2", 90)) == web.address
        assert other.namespace.run(lambda: reaches(web.address, 80))
        assert await ask(other, "web", 1) == [web.address]
        # It goes on after a crash of the daemon, and the way to it with a further network.
        machine.crash()
        await machine.restart()
        assert neighbour.run(lambda: reaches(web.address, 80))
        lan, front = machine.networks.get("lan"), machine.networks.get("front")
        place = machine.networks.allocate(front, EndpointRequest(web.id, "web"))
        await machine.networks.connect(web.id, place, web.sockets())
        await machine.networks.disconnect(web.id, lan.id, web.sockets())
        assert neighbour.run(lambda: is_silent(web.address, 80))
        again = machine.networks.allocate(lan, EndpointRequest(web.id, "web"))
        await machine.networks.connect(web.id, again, web.sockets())
        assert neighbour.run(lambda: reaches(again.ipv4_address, 80))
    for container in (web, other):
        await machine.networks.leave(container.id)
    await machine.networks.remove("lan")


async def test_what_cannot_be_is_said_when_it_is_created(
    machine: Machine, neighbour: Namespace, driver: str
) -> None:
    for options, words in (
        ({"parent": "lo"}, f"loopback interface is not a valid {driver} parent link"),
        ({"parent": "nosuch0.12"}, "failed to find master interface nosuch0 on the host"),
        ({"parent": "wire0.4095"}, "vlan id must be between 1-4094"),
        ({"parent": "nosuch0"}, "invalid subinterface vlan name nosuch0"),
        (
            {"parent": "wire0", f"{driver}_mode": "odd"},
            f"requested {driver} mode 'odd' is not valid",
        ),
    ):
        with pytest.raises(EngineError, match=words):
            await machine.networks.create(NetworkSpec("lan", driver=driver, options=options))
    names = [name for _, name in socket.if_nameindex()]
    assert "wire0" in names
    assert not any(name.startswith("pyc") for name in names)
    assert [each.name for each in machine.networks.list()] == ["bridge", "host", "none"]


def interfaces() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@pytest.mark.parametrize(("parent", "made"), [("", "-"), ("wire0.7", "wire0.7")])
async def test_parent_is_made_and_goes_with_its_last_network(
    machine: Machine, neighbour: Namespace, driver: str, parent: str, made: str
) -> None:
    options = {"parent": parent} if parent else {}
    before = interfaces()
    try:
        lan = await machine.network("lan", driver=driver, options=options)
    except Failure as error:
        assert interfaces() == before
        pytest.skip(str(error))
    (new,) = interfaces() - before
    assert made in new
    one = await machine.container("one", lan)
    two = await machine.container("two", lan)
    with Listener(one.namespace, 80):
        assert two.namespace.run(lambda: reaches(one.address, 80))
    if parent:
        await machine.network("more", driver=driver, options=options)
        await machine.networks.remove("more")
        assert new in interfaces()
    for container in (one, two):
        await machine.networks.leave(container.id)
        container.namespace.close()
        machine.namespaces.remove(container.namespace)
    await machine.networks.remove("lan")
    assert interfaces() == before


@pytest.mark.parametrize("driver", ["ipvlan"], indirect=True)
async def test_layer_3_has_no_gateway(machine: Machine, neighbour: Namespace, driver: str) -> None:
    options = {"parent": "wire0", "ipvlan_mode": "l3"}
    lan = await machine.network("lan", driver=driver, pools=(POOL,), options=options)
    far = (AddressPool("10.31.0.0/24"),)
    more = await machine.network("more", driver=driver, pools=far, options=options)
    one = await machine.container("one", lan)
    two = await machine.container("two", more)
    assert one.endpoints[0].gateway == ""
    # The kernel routes between the subnets that are on one parent.
    with Listener(one.namespace, 80):
        assert two.namespace.run(lambda: visit(one.address, 80)) == two.address
    assert (await ask(one, "one", 1)) == [one.address]
