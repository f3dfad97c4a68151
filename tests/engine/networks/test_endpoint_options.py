import pytest

from engine.errors import InvalidRequest
from engine.networks.endpoint_options import interface_name, sysctls
from engine.networks.interface_sysctls import path_of
from engine.networks.model import ENDPOINT_IFNAME, ENDPOINT_SYSCTLS


def test_options_are_read() -> None:
    wanted = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.neigh.ifname.mcast_solicit=2"
    options = {ENDPOINT_IFNAME: "dmz0", ENDPOINT_SYSCTLS: wanted, "of.others": "x"}
    assert interface_name(options) == "dmz0"
    assert sysctls(options) == {
        "net.ipv4.conf.IFNAME.log_martians": "1",
        "net.ipv6.neigh.IFNAME.mcast_solicit": "2",
    }
    assert (interface_name({}), sysctls({})) == ("", {})


@pytest.mark.parametrize("name", ["a/b", "..", "lo", "all", "default", "name-of-16-chars"])
def test_name_that_is_no_interface_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid interface name"):
        interface_name({ENDPOINT_IFNAME: name})


@pytest.mark.parametrize(
    "entry",
    [
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.forwarding=1",
        "net.ipv4.conf.IFNAME.x",
        "kernel.conf.IFNAME.x=1",
        "net.ipv4.conf.IFNAME./../../x=1",
    ],
)
def test_sysctl_of_anything_but_the_interface_is_refused(entry: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid sysctl"):
        sysctls({ENDPOINT_SYSCTLS: entry})


def test_interface_may_have_dots_in_its_name() -> None:
    assert path_of("net.ipv4.conf.eth0.10.log_martians") == "net/ipv4/conf/eth0.10/log_martians"
