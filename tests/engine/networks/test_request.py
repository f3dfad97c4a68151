import pytest

from engine.errors import EngineError, Forbidden, InvalidRequest, NotFound, Unavailable, Unsupported
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_IFNAME_PREFIX,
    OPTION_INHIBIT,
    OPTION_MASQUERADE,
    OPTION_MTU,
    OPTION_TRUSTED,
    AddressPool,
    Network,
    NetworkSpec,
)
from engine.networks.request import check_options, check_spec, taken_from, warnings_of


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (NetworkSpec(" "), InvalidRequest, "name is empty"),
        (NetworkSpec("a/b"), InvalidRequest, "a/b"),
        (NetworkSpec("x", driver="host"), Forbidden, 'only one instance of "host" network'),
        (NetworkSpec("x", ingress=True), Unsupported, "swarm"),
        (NetworkSpec("x", enable_ipv4=False), InvalidRequest, "IPv4 or IPv6 must be enabled"),
        (
            NetworkSpec("x", options={OPTION_GATEWAY_MODE[4]: "isolated"}),
            InvalidRequest,
            "gateway mode 'isolated' can only be used for an internal network",
        ),
        (NetworkSpec("x", ipam_driver="foo"), NotFound, 'plugin "foo" not found'),
        (NetworkSpec("x", driver="overlay"), Forbidden, "not a swarm manager"),
        (NetworkSpec("x", scope="swarm"), Unavailable, "swarm is not active"),
        (
            NetworkSpec("x", driver="ipvlan", options={"ipvlan_mode": "l4"}),
            InvalidRequest,
            "requested ipvlan mode 'l4' is not valid, 'l2' mode is the ipvlan driver default",
        ),
        (
            NetworkSpec("x", driver="macvlan", options={"parent": "lo"}),
            InvalidRequest,
            "loopback interface is not a valid macvlan parent link",
        ),
        (
            NetworkSpec("x", config_only=True, internal=True),
            Forbidden,
            "configuration network can only contain network specific fields",
        ),
        (
            NetworkSpec("x", config_from="y", options={OPTION_MTU: "1400"}),
            Forbidden,
            "user specified configurations are not supported",
        ),
        (
            NetworkSpec("x", pools=(AddressPool("10.1.0.0/24"), AddressPool("10.2.0.0/24"))),
            InvalidRequest,
            "bridge driver doesn't support multiple subnets",
        ),
        (NetworkSpec("x", pools=(AddressPool("", "10.0.0.1"),)), InvalidRequest, "invalid subnet"),
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
        (OPTION_TRUSTED, "eth0::eth1"),
        ("com.docker.network.host_ipv4", "10.0.0.1"),
    ],
)
def test_option_that_would_not_be_honoured_is_refused(name: str, value: str) -> None:
    with pytest.raises(EngineError):
        check_options({name: value})


def test_truth_has_several_spellings() -> None:
    network = Network("a" * 64, "front", "bridge", 0, (), "br0", options={OPTION_ICC: "F"})
    assert not network.flag(OPTION_ICC, default=True)
    assert network.flag(OPTION_MASQUERADE, default=True)
    check_spec(NetworkSpec("a name with spaces", driver="", options=network.options))


def test_what_has_no_effect_is_told_of() -> None:
    pools = (AddressPool("10.1.0.0/24"), AddressPool("fd00:1::/64"))
    assert warnings_of(NetworkSpec("x", pools=pools, enable_ipv6=True)) == ""
    assert warnings_of(NetworkSpec("x", pools=pools)) == (
        "subnet fd00:1::/64 is not used: IPv6 is not enabled for this network"
    )
    odd = NetworkSpec("x", options={"parent": "eth0"}, ipam_options={"a": "b"})
    assert warnings_of(odd) == (
        "option a means nothing to the default IPAM driver; option parent means nothing to the"
        " bridge driver"
    )


def test_network_takes_all_from_its_configuration() -> None:
    pools = (AddressPool("10.1.0.0/24"),)
    template = Network(
        "a" * 64, "conf", "null", 0, pools, "", options={OPTION_MTU: "1400"}, config_only=True
    )
    made = taken_from(template, NetworkSpec("x", config_from="conf", labels={"k": "v"}))
    assert (made.pools, made.options, made.labels) == (pools, {OPTION_MTU: "1400"}, {"k": "v"})
    other = Network("b" * 64, "plain", "bridge", 0, pools, "br0")
    with pytest.raises(Forbidden, match="is no configuration network"):
        taken_from(other, NetworkSpec("x", config_from="plain"))
