import pytest

from engine.networks import link_message as link
from engine.networks.netlink import Message, attribute, attributes, replies
from engine.networks.netlink_socket import ROUTE, NetlinkError, NetlinkSocket


def test_attribute_is_padded_but_its_length_is_not() -> None:
    assert attribute(3, b"lo\0").hex(" ", 4) == "07000300 6c6f0000"


def test_attribute_that_does_not_fit_its_length_field_is_refused() -> None:
    # CVE-2021-43784: a length that wraps around lets the payload be read as attributes.
    with pytest.raises(ValueError, match="too long"):
        attribute(1, bytes(0x10000))


def test_message_is_read_back() -> None:
    message = Message(16, 0x400, attribute(1, b"x") + attribute(2, b"yz"))
    (reply,) = replies(message.pack(7))
    assert (reply.type, reply.sequence, reply.flags) == (16, 7, 0x400 | 1 | 4)
    assert list(attributes(reply.body)) == [(1, b"x"), (2, b"yz")]


@pytest.mark.parametrize("noise", [b"", b"\0" * 16, b"\x03\0\0\0" * 8, b"\xff" * 64])
def test_noise_is_no_endless_loop(noise: bytes) -> None:
    for reply in replies(noise):
        list(attributes(reply.body))


def test_veth_is_one_message_with_master_and_peer() -> None:
    message = link.create_veth(
        host_ifname="veth0123456789",
        bridge_index=5,
        mtu=0,
        namespace=9,
        ifname="eth0",
        mac_address="02:42:ac:12:00:02",
    )
    parts = dict(attributes(message.body[link.LINK.size :]))
    assert parts[link.IFLA_IFNAME] == b"veth0123456789\0"
    assert parts[link.IFLA_MASTER] == b"\5\0\0\0"
    info = dict(attributes(parts[link.IFLA_LINKINFO]))
    peer = dict(attributes(info[link.IFLA_INFO_DATA]))[link.VETH_INFO_PEER]
    inner = dict(attributes(peer[link.LINK.size :]))
    assert inner[link.IFLA_IFNAME] == b"eth0\0"
    assert inner[link.IFLA_ADDRESS].hex(":") == "02:42:ac:12:00:02"
    assert inner[link.IFLA_NET_NS_FD] == b"\x09\0\0\0"


@pytest.mark.kernel
def test_refusal_names_what_was_tried_and_why(own_network: None) -> None:
    with NetlinkSocket.open(ROUTE) as route:
        with pytest.raises(NetlinkError) as refused:
            route.request(link.set_up("lo", 1), link.default_route(1, "192.0.2.1"))
        assert str(refused.value).startswith("cannot route by way of 192.0.2.1: Network is unreach")
        # The socket goes on working.
        (found,) = route.request(link.get_link("lo"))
        assert link.index_of(found) == 1
