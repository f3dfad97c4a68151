import pytest

from engine.errors import EngineError, InvalidRequest
from engine.networks.model import (
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    AddressPool,
    Network,
    PortBinding,
    PortRequest,
)
from engine.networks.port_wishes import decide

WISH = PortRequest(80, host_port=8080)


def network(**options: str) -> Network:
    pools = (AddressPool("10.0.0.0/24", "10.0.0.1"), AddressPool("fd00::/64", "fd00::1"))
    return Network("n" * 64, "n", "bridge", 0, pools, "br-n", options=options)


def test_port_without_an_address_is_on_all_whatever_the_container_has() -> None:
    both = network()
    for networks in ({}, {4: both}, {6: both}, {4: both, 6: both}):
        assert decide([WISH], networks).on_host == ((WISH, ("0.0.0.0", "::")),)
    wish = PortRequest(80, host_ip="0:0::1", host_port=8080)
    assert decide([wish], {4: both}).on_host == ((wish, ("::1",)),)


def test_address_of_the_network_opens_nothing_else() -> None:
    closed = network(**{OPTION_HOST_BINDING: "127.0.0.1"})
    assert decide([WISH], {4: closed, 6: closed}).on_host == ((WISH, ("127.0.0.1",)),)


def test_routed_version_is_open_at_home_only() -> None:
    routed = network(**{OPTION_GATEWAY_MODE[6]: "routed"})
    found = decide([WISH], {4: routed, 6: routed})
    assert found.on_host == ((WISH, ("0.0.0.0",)),)
    assert found.at_home == (PortBinding(80, "tcp", "::", 0),)


def test_what_nobody_carries_is_where_the_kernel_leads_it() -> None:
    wish = PortRequest(80, "sctp", host_port=8080)
    assert decide([wish], {4: network()}).on_host == ((wish, ("0.0.0.0",)),)


@pytest.mark.parametrize(
    ("host_ip", "kind", "words"),
    [
        ("elsewhere", InvalidRequest, "invalid host address"),
    ],
)
def test_address_that_leads_nowhere_is_refused(
    host_ip: str, kind: type[EngineError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        decide([PortRequest(80, host_ip=host_ip, host_port=8080)], {4: network()})
