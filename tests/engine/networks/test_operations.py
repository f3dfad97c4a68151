"""Networks whole, with real namespaces for the host, its neighbours and the containers."""

import asyncio

import pytest

from engine.networks.model import PortRequest
from tests.engine.networks.conftest import Listener, Machine, reaches, visit

pytestmark = pytest.mark.kernel


async def test_containers_of_a_network_reach_each_other(machine: Machine) -> None:
    front = await machine.network("front")
    one = await machine.container("one", front)
    two = await machine.container("two", front)
    with Listener(two.namespace, 80):
        assert (
            await asyncio.to_thread(one.namespace.run, lambda: visit(two.address, 80))
            == one.address
        )


async def test_published_port_is_reached_from_everywhere(machine: Machine) -> None:
    client = machine.neighbour()
    front = await machine.network("front")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    with Listener(web.namespace, 80):
        # The source of an outside client is kept.
        assert client.run(lambda: visit("10.9.0.1", 8080)) == "10.9.0.2"
        assert visit("10.9.0.1", 8080)
        assert visit("127.0.0.1", 8080)
        assert web.namespace.run(lambda: visit("10.9.0.1", 8080)) == front.pools[0].gateway
