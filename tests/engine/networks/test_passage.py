"""Beside programs whose chains drop what is forwarded: dockerd's, ufw's, an administrator's."""

import asyncio
import logging
from collections.abc import Callable
from itertools import chain as together

import pytest

from engine.networks.model import Network, PortRequest
from engine.networks.netlink import APPEND, CREATE, attribute, nested, net_u32, text
from engine.networks.netlink_socket import NETFILTER, NetlinkSocket
from engine.networks.nft import Family, Verdict
from engine.networks.nft_message import message, rule_expressions, transaction
from engine.networks.passage import ForwardChain, ListedRule, list_rules, listed_rule
from tests.engine.networks.conftest import (
    TAG,
    Container,
    Listener,
    Machine,
    Namespace,
    is_silent,
    reaches,
)
from tests.host import firewall_leftovers

pytestmark = pytest.mark.kernel

INET = 1
NEWTABLE, NEWCHAIN, NEWRULE, DELRULE = 0, 3, 6, 8
OLD = ForwardChain(Family.IPV4.number, "filter", "FORWARD", drops=True)
OLD6 = ForwardChain(Family.IPV6.number, "filter", "FORWARD", drops=True)
BOTH = ForwardChain(INET, "guard", "forward", drops=True)
CHAINS = (OLD, OLD6, BOTH)
OWNED = 2  # NFT_TABLE_F_OWNER


def guard(*chains: ForwardChain, ends: bool = False, table_flags: int = 0) -> NetlinkSocket:
    """Another program's chains, and its socket. `ends`: a last rule says what the policy says."""
    messages = []
    for chain in chains:
        hook = nested(4, net_u32(1, 2), attribute(2, bytes(4)))
        table = text(1, chain.table)
        policy = net_u32(5, Verdict.DROP.value if chain.drops else Verdict.ACCEPT.value)
        body = table + text(3, chain.name) + hook + policy + text(7, "filter")
        flags = net_u32(2, table_flags)
        messages.append(message(NEWTABLE, table + flags, CREATE, "make", chain.family))
        messages.append(message(NEWCHAIN, body, CREATE, "make", chain.family))
        if ends:
            place = table + text(2, chain.name)
            drop = place + rule_expressions((Verdict.DROP,))
            messages.append(message(NEWRULE, drop, CREATE | APPEND, "make", chain.family))
    opened = NetlinkSocket.open(NETFILTER)
    opened.batch(transaction(messages))
    return opened


def flush(chain: ForwardChain) -> None:
    """As by `iptables -F FORWARD`."""
    with NetlinkSocket.open(NETFILTER) as other:
        place = text(1, chain.table) + text(2, chain.name)
        other.batch(transaction([message(DELRULE, place, 0, "flush", chain.family)]))


def rules(chain: ForwardChain) -> list[ListedRule]:
    with NetlinkSocket.open(NETFILTER) as netfilter:
        return [listed_rule(each, TAG) for each in netfilter.dump(list_rules(chain))]


def passing(chain: ForwardChain) -> list[tuple[str, str]]:
    found = [each.passage for each in rules(chain)]
    return sorted((each.bridge, each.direction) for each in found if each)


def ways(*networks: Network) -> list[tuple[str, str]]:
    names = [network.bridge for network in networks]
    return sorted(together(*([(n, "iifname"), (n, "oifname")] for n in names)))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def reach_each_other(client: Namespace, web: Container, version: int) -> bool:
    """The neighbour reaches the published port; the container reaches the neighbour."""
    host, beyond = {4: ("10.9.0.1", "10.9.0.2"), 6: ("2001:db8:0::1", "2001:db8:0::2")}[version]
    with Listener(client, 81, beyond):
        leaves = web.namespace.run(lambda: reaches(beyond, 81))
    return leaves and client.run(lambda: reaches(host, 8080))


async def test_policy_of_others_lets_containers_pass(machine: Machine) -> None:
    guard(*CHAINS).close()
    client = machine.neighbour()
    front = await machine.network("front", enable_ipv6=True)
    back = await machine.network("back")
    web = await machine.container("web", front, ports=(PortRequest(80, host_port=8080),))
    other = await machine.container("other", back)
    assert passing(OLD) == passing(BOTH) == ways(front, back)
    assert passing(OLD6) == ways(front)
    with Listener(web.namespace, 80, "::"):
        assert reach_each_other(client, web, 4)
        assert reach_each_other(client, web, 6)
        # Our own table drops what it did.
        assert other.namespace.run(lambda: is_silent(web.address, 80))

    # Killed, and started again: nothing is doubled.
    machine.crash()
    await machine.restart()
    assert passing(OLD) == passing(BOTH) == ways(front, back)
    assert passing(OLD6) == ways(front)

    # Flushed by another program.
    flush(BOTH)
    await until(lambda: passing(BOTH) == ways(front, back))

    for container in (web, other):
        await machine.networks.leave(container.id)
    await machine.networks.remove("front")
    assert passing(OLD) == passing(BOTH) == ways(back)
    assert passing(OLD6) == []
    assert f"rule pycompose-{TAG}: from {back.bridge}" in firewall_leftovers()
    machine.crash()
    await machine.restart_empty()
    await machine.networks.retire()
    assert [*rules(OLD), *rules(OLD6), *rules(BOTH), *firewall_leftovers()] == []


async def test_policy_that_comes_later_lets_containers_pass(machine: Machine) -> None:
    front = await machine.network("front")
    accepting = ForwardChain(INET, "later", "forward", drops=False)
    guard(accepting).close()
    guard(BOTH, ends=True).close()
    await until(lambda: passing(BOTH) == ways(front))
    assert [each.drops_all for each in rules(BOTH)] == [False, False, True]
    assert rules(accepting) == []


async def test_locked_table_is_told_of(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    with guard(BOTH, table_flags=OWNED), caplog.at_level(logging.WARNING):
        front = await machine.network("front")
    assert (
        "cannot add a rule to the firewall chain inet guard forward: Operation not permitted;"
        " containers can't pass this chain, whose policy drops; the program that owns it has to"
        f' add to it: iifname {{ "{front.bridge}" }} accept; oifname {{ "{front.bridge}" }} accept'
    ) in caplog.text
