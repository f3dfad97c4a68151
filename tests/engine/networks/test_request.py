import pytest

from engine.errors import EngineError, Forbidden, InvalidRequest, NotFound, Unsupported
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_IFNAME_PREFIX,
    OPTION_INHIBIT,
    OPTION_MTU,
    AddressPool,
    NetworkSpec,
)
from engine.networks.request import check_spec, checked_options, unused_pools


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (NetworkSpec(" "), InvalidRequest, "it is empty"),
        (NetworkSpec("a/b"), InvalidRequest, "a/b"),
        (NetworkSpec("x", driver="host"), Forbidden, 'only one instance of "host" network'),
        (NetworkSpec("x", ingress=True), Unsupported, "swarm"),
        (NetworkSpec("x", enable_ipv4=False), InvalidRequest, "IPv4 or IPv6 must be enabled"),
        (
            NetworkSpec("x", options={OPTION_GATEWAY_MODE[4]: "isolated"}),
            InvalidRequest,
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        (NetworkSpec("x", ipam_driver="foo"), NotFound, 'ipam driver "foo"'),
        (NetworkSpec("x", ipam_options={"a": "b"}), InvalidRequest, "default IPAM driver: a"),
        (
            NetworkSpec("x", pools=(AddressPool("10.1.0.0/24"), AddressPool("10.2.0.0/24"))),
            InvalidRequest,
            "bridge driver doesn't support multiple subnets",
        ),
        (NetworkSpec("x", pools=(AddressPool("", "10.0.0.1"),)), InvalidRequest, "needs a subnet"),
    ],
)
def test_network_that_cannot_be_is_refused(
    spec: NetworkSpec, kind: type[EngineError], words: str
) -> None:
    with pytest.raises(kind, match=words):
        check_spec(spec)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (OPTION_MTU, "10"),
        (OPTION_MTU, "many"),
        (OPTION_ICC, "perhaps"),
        (OPTION_BRIDGE_NAME, "a-name-of-16-char"),
        (OPTION_BRIDGE_NAME, "../x"),
        (OPTION_HOST_BINDING, "localhost"),
        (OPTION_DEFAULT_BRIDGE, "true"),
        (OPTION_GATEWAY_MODE[6], "bogus"),
        (OPTION_IFNAME_PREFIX, "much-too-long-a-name"),
        (OPTION_INHIBIT, "maybe"),
        ("com.docker.network.bridge.trusted_host_interfaces", "eth0"),
    ],
)
def test_option_that_would_not_be_honoured_is_refused(name: str, value: str) -> None:
    with pytest.raises(EngineError):
        checked_options({name: value})


def test_options_are_spelled_in_one_way() -> None:
    given = {OPTION_ICC: "0", OPTION_MTU: "1400", "of.others": "kept"}
    assert checked_options(given) == {OPTION_ICC: "false", OPTION_MTU: "1400", "of.others": "kept"}
    check_spec(NetworkSpec("a name with spaces", driver=""))


def test_subnet_of_a_version_that_is_off_is_told_of() -> None:
    pools = (AddressPool("10.1.0.0/24"), AddressPool("fd00:1::/64"))
    assert unused_pools(NetworkSpec("x", pools=pools, enable_ipv6=True)) == ""
    assert unused_pools(NetworkSpec("x", pools=pools)) == (
        "subnet fd00:1::/64 is not used: IPv6 is not enabled for this network"
    )
