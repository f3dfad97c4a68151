import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Failure, Forbidden, InvalidRequest
from engine.networks.ipam import (
    DEFAULT_POOLS,
    AddressSpace,
    Occupied,
    Route,
    choose_subnet,
    complete_pool,
    mac_of,
    parse_routes,
    parse_routes6,
    private_block,
    refuse_overlap,
    wanted_pools,
)
from engine.networks.model import AddressPool

ROUTES = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
tun0	0000000A	010200C0	0003	0	0	0	000000FF	0	0	0
"""


def test_routes_are_read_without_the_default_one() -> None:
    assert parse_routes(ROUTES) == (
        Route(IPv4Network("192.0.2.0/24"), "eth0", direct=True),
        Route(IPv4Network("10.0.0.0/8"), "tun0", direct=False),
    )


ROUTES6 = """\
20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
20010db8000100000000000000000000 30 00000000000000000000000000000000 00 \
20010db8000000000000000000000001 00000400 00000001 00000000 00000003     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
20010db8000000000000000000000001 00000400 00000001 00000000 00000003     eth0
fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
20010db8000000000000000000000002 80 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000000 00000001 00000000 80200001     eth0
ff000000000000000000000000000000 08 00000000000000000000000000000000 00 \
00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
"""


def test_ipv6_routes_are_read_without_what_is_the_kernels_own() -> None:
    assert parse_routes6(ROUTES6) == (
        Route(IPv6Network("2001:db8::/64"), "eth0", direct=True),
        Route(IPv6Network("2001:db8:1::/48"), "eth0", direct=False),
    )


def test_ipv6_pools_are_private_and_a_daemons_own() -> None:
    block = private_block("0badcafe")
    assert block.subnet_of(IPv6Network("fd00::/8"))
    assert block.prefixlen == 48
    assert private_block("0badcafe") == block != private_block("other")
    first, second = list(block.subnets(new_prefix=64))[:2]
    assert choose_subnet([], version=6, tag="0badcafe") == str(first)
    taken = [first, IPv4Network("0.0.0.0/0")]
    assert choose_subnet(taken, version=6, tag="0badcafe") == str(second)


def test_pools_are_sorted_by_the_versions_that_are_on() -> None:
    pools = (AddressPool("fd00:1::/64"), AddressPool("10.1.0.0/24"))
    both = wanted_pools(pools, ipv4=True, ipv6=True)
    assert both == ((4, pools[1]), (6, pools[0]))
    assert wanted_pools(pools, ipv4=False, ipv6=True) == ((6, pools[0]),)
    assert wanted_pools((*pools, pools[0]), ipv4=True, ipv6=False) == ((4, pools[1]),)
    assert wanted_pools((), ipv4=True, ipv6=True) == ((4, AddressPool()), (6, AddressPool()))


def test_pools_are_those_of_docker_and_taken_ones_are_passed_over() -> None:
    assert choose_subnet([]) == "172.17.0.0/16"
    blocks = [block for block, _ in DEFAULT_POOLS]
    assert choose_subnet(blocks[:3]) == "172.20.0.0/16"
    assert choose_subnet([IPv4Network("172.17.3.0/24")]) == "172.18.0.0/16"
    assert choose_subnet([IPv4Network("172.16.0.0/12")]) == "192.168.0.0/20"
    assert choose_subnet([*blocks[:-1], IPv4Network("10.128.3.0/24")]) == "10.128.16.0/20"
    with pytest.raises(Failure, match="fully subnetted"):
        choose_subnet([IPv4Network("0.0.0.0/0")])


@pytest.mark.parametrize(
    ("subnet", "gateway", "address"),
    [("10.5.0.0/31", "10.5.0.0", "10.5.0.1"), ("fd00::2/127", "fd00::2", "fd00::3")],
)
def test_a_link_of_two_has_room_for_one_container(subnet: str, gateway: str, address: str) -> None:
    pool = complete_pool(AddressPool(subnet))
    assert pool.gateway == gateway
    given = AddressSpace.of(pool).give()
    assert given is not None
    assert given[1] == address
    assert given[0].give() is None


def test_a_subnet_stays_as_it_is_written() -> None:
    asked = AddressPool("FD00:0005::/64", "fd00:5:0::9", "FD00:5::100/120")
    pool = complete_pool(asked)
    assert (pool.subnet, pool.ip_range) == (asked.subnet, asked.ip_range)
    assert pool.gateway == "fd00:5::9"


@pytest.mark.parametrize(
    ("pool", "what"),
    [
        (
            AddressPool("10.5.0.0/24", auxiliary={"a": "10.5.0.1"}),
            "secondary ip address (a:10.5.0.1)",
        ),
        (
            AddressPool("10.5.0.0/24", "10.5.0.9", auxiliary={"a": "10.5.0.9"}),
            "secondary ip address (a:10.5.0.9)",
        ),
        (
            AddressPool("10.5.0.0/24", auxiliary={"a": "10.5.0.7", "b": "10.5.0.7"}),
            "secondary ip address (b:10.5.0.7)",
        ),
        (
            AddressPool("10.5.0.0/24", auxiliary={"a": "10.5.0.255"}),
            "secondary ip address (a:10.5.0.255)",
        ),
        (AddressPool("fd00::/64", auxiliary={"a": "fd00::1"}), "secondary ip address (a:fd00::1)"),
        (AddressPool("10.5.0.0/24", "10.5.0.0"), "gateway (10.5.0.0)"),
        (AddressPool("10.5.0.0/24", "10.5.0.255"), "gateway (10.5.0.255)"),
        (AddressPool("fd00::/64", "fd00::"), "gateway (fd00::)"),
    ],
)
def test_no_address_is_for_two_things(pool: AddressPool, what: str) -> None:
    words = f"failed to allocate {what}: Address already in use"
    with pytest.raises(Forbidden, match=re.escape(words)):
        complete_pool(pool)


def test_the_gateway_is_the_first_address_of_the_range() -> None:
    assert complete_pool(AddressPool("10.5.0.0/24", ip_range="10.5.0.64/26")).gateway == "10.5.0.64"


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (AddressPool("10.5.0.1/24"), "invalid subnet 10.5.0.1/24: it should be 10.5.0.0/24"),
        (AddressPool("10.5.0.0"), "invalid subnet 10.5.0.0"),
        (AddressPool("ten"), "invalid subnet ten"),
        (AddressPool("10.5.0.0/32"), "no room"),
        (AddressPool("fd00::/128"), "no room"),
        (AddressPool("fd00::/64", "fd01::1"), "no matching subnet for gateway fd01::1"),
        (AddressPool("fd00::/64", "10.0.0.1"), "no matching subnet for gateway 10.0.0.1"),
        (AddressPool("fd00::/64", ip_range="10.0.0.0/30"), "outside of subnet"),
        (AddressPool("10.5.0.0/24", "10.6.0.1"), "no matching subnet for gateway 10.6.0.1"),
        (AddressPool("10.5.0.0/24", ip_range="10.6.0.0/30"), "outside of subnet"),
        (AddressPool("10.5.0.0/24", auxiliary={"x": "10.6.0.1"}), "aux-address 10.6.0.1"),
    ],
)
def test_pool_that_does_not_hold_together_is_refused(pool: AddressPool, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        complete_pool(pool)


def test_overlap_is_refused_in_docker_words() -> None:
    with pytest.raises(Forbidden, match="Pool overlaps with other one on this address space"):
        refuse_overlap("10.5.0.0/24", [IPv4Network("10.0.0.0/8")])


def space(subnet: str = "10.5.0.0/29") -> AddressSpace:
    return AddressSpace.of(complete_pool(AddressPool(subnet)))


def test_address_is_not_given_out_again_at_once() -> None:
    one, first = give(space())
    two, second = give(one.release(first))
    assert (first, second) == ("10.5.0.2", "10.5.0.3")
    assert two.taken == {int(IPv4Address("10.5.0.3"))}


def give(space: AddressSpace) -> tuple[AddressSpace, str]:
    given = space.give()
    assert given is not None
    return given


def test_asked_address_must_be_free_and_of_the_subnet() -> None:
    taken = space().take("10.5.0.4")
    with pytest.raises(Forbidden, match="Address already in use"):
        taken.take("10.5.0.4")
    with pytest.raises(Forbidden, match="Address already in use"):
        taken.take("10.5.0.1")
    with pytest.raises(InvalidRequest, match=r"contain the IP address 10\.6\.0\.4"):
        taken.take("10.6.0.4")


def test_ipv6_addresses_are_given_after_the_gateway() -> None:
    pool = complete_pool(AddressPool("fd00:1::/64", auxiliary={"x": "fd00:1::2"}))
    assert pool.gateway == "fd00:1::1"
    one, first = give(AddressSpace.of(pool))
    _, second = give(one)
    assert (first, second) == ("fd00:1::3", "fd00:1::4")
    with pytest.raises(Forbidden, match="already in use"):
        one.take("fd00:1:0:0::3")
    with pytest.raises(InvalidRequest, match="contain the IP address"):
        one.take("10.0.0.3")


def test_hardware_addresses_of_like_ipv6_addresses_differ() -> None:
    assert mac_of("fd00:1::1:0:0:2") != mac_of("fd00:1::2:0:0:2")


def test_hardware_address_comes_from_the_address() -> None:
    assert mac_of("172.17.0.2") == "02:42:ac:11:00:02"


@settings(deadline=None)
@given(st.lists(st.sampled_from(["give", "release first", "release last"]), max_size=40))
def test_no_address_is_given_twice_and_none_is_lost(steps: list[str]) -> None:
    current, held = space(), list[str]()
    for step in steps:
        if step == "give":
            given = current.give()
            assert (given is None) == (len(held) == 5)
            if given is not None:
                current, address = given
                assert address not in held
                assert IPv4Address(address) in current.subnet
                held.append(address)
        elif held:
            current = current.release(held.pop(0 if step == "release first" else -1))


def test_hundreds_of_networks_get_subnets_that_do_not_overlap() -> None:
    taken: list[IPv4Network] = []
    for _ in range(300):
        chosen = IPv4Network(choose_subnet(taken))
        assert not any(chosen.overlaps(other) for other in taken)
        taken.append(chosen)


def test_a_network_within_another_hides_nothing_of_it() -> None:
    networks = [IPv4Network("10.0.0.0/8"), IPv4Network("10.1.0.0/16")]

    def until(text: str, networks: Sequence[IPv4Network]) -> str | None:
        asked = IPv4Network(text)
        found = Occupied(networks).until(int(asked[0]), int(asked[-1]))
        return None if found is None else str(IPv4Address(found))

    assert until("10.200.0.0/16", networks) == "10.255.255.255"
    assert until("10.0.0.0/7", networks) == "10.255.255.255"
    assert until("11.0.0.0/8", networks) is None
    assert until("9.0.0.0/8", networks) is None
    assert until("10.0.0.0/8", []) is None
