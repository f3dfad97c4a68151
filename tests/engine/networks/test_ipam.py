from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Failure, Forbidden, InvalidRequest
from engine.networks.ipam import (
    DEFAULT_POOLS,
    AddressSpace,
    Route,
    choose_subnet,
    complete_pool,
    mac_of,
    parse_routes,
    refuse_overlap,
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


def test_pools_are_those_of_docker_and_taken_ones_are_passed_over() -> None:
    assert choose_subnet([]) == "172.17.0.0/16"
    assert choose_subnet(DEFAULT_POOLS[:3]) == "172.20.0.0/16"
    assert choose_subnet([IPv4Network("172.17.3.0/24")]) == "172.18.0.0/16"
    assert choose_subnet([IPv4Network("172.16.0.0/12")]) == "192.168.0.0/20"
    with pytest.raises(Failure, match="fully subnetted"):
        choose_subnet([IPv4Network("0.0.0.0/0")])


def test_gateway_is_the_first_address_that_is_not_kept() -> None:
    pool = AddressPool("10.5.0.0/24", auxiliary={"printer": "10.5.0.1"})
    assert complete_pool(pool).gateway == "10.5.0.2"
    assert complete_pool(AddressPool("10.5.0.0/24", ip_range="10.5.0.64/26")).gateway == "10.5.0.64"


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (AddressPool("10.5.0.1/24"), "invalid subnet 10.5.0.1/24: it should be 10.5.0.0/24"),
        (AddressPool("10.5.0.0"), "invalid subnet 10.5.0.0"),
        (AddressPool("ten"), "invalid subnet ten"),
        (AddressPool("10.5.0.0/31"), "no room"),
        (AddressPool("fd00::/64"), "IPv4 only"),
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
