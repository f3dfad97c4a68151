import pytest

from engine.errors import EngineError, Forbidden, InvalidRequest, NotFound, Unsupported
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_MTU,
    AddressPool,
    NetworkSpec,
)
from engine.networks.request import check_spec, checked_options


@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (NetworkSpec(" "), InvalidRequest, "it is empty"),
        (NetworkSpec("a/b"), InvalidRequest, "a/b"),
        (NetworkSpec("x", driver="host"), Forbidden, 'only one instance of "host" network'),
        (NetworkSpec("x", ingress=True), Unsupported, "swarm"),
        (NetworkSpec("x", enable_ipv4=False), Unsupported, "IPv4 only"),
        (NetworkSpec("x", ipam_driver="foo"), NotFound, 'ipam driver "foo"'),
        (NetworkSpec("x", ipam_options={"a": "b"}), InvalidRequest, "default IPAM driver: a"),
        (NetworkSpec("x", pools=(AddressPool(), AddressPool())), InvalidRequest, "one IPv4 subnet"),
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
        ("com.docker.network.bridge.gateway_mode_ipv4", "routed"),
    ],
)
def test_option_that_would_not_be_honoured_is_refused(name: str, value: str) -> None:
    with pytest.raises(EngineError):
        checked_options({name: value})


def test_options_are_spelled_in_one_way() -> None:
    given = {OPTION_ICC: "0", OPTION_MTU: "1400", "of.others": "kept"}
    assert checked_options(given) == {OPTION_ICC: "false", OPTION_MTU: "1400", "of.others": "kept"}
    check_spec(NetworkSpec("a name with spaces", driver=""))
