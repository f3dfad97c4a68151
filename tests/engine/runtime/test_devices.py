import pytest

from engine.errors import InvalidRequest
from engine.runtime import devices
from engine.runtime.cgroups import v1_settings


def lines(rules: tuple[devices.Rule, ...]) -> list[str]:
    settings = v1_settings({"devices": [rule.to_oci() for rule in rules]})["devices"]
    return [f"{setting.file.removeprefix('devices.')} {setting.value}" for setting in settings]


def test_default_rules_are_these() -> None:
    """Isolation requirement 11: no tun, no fuse."""
    assert lines(devices.DEFAULT_RULES) == [
        "deny a",
        "allow c *:* m",
        "allow b *:* m",
        "allow c 1:3 rwm",
        "allow c 1:5 rwm",
        "allow c 1:7 rwm",
        "allow c 1:8 rwm",
        "allow c 1:9 rwm",
        "allow c 5:0 rwm",
        "allow c 5:1 rwm",
        "allow c 5:2 rwm",
        "allow c 136:* rwm",
        "deny c 10:229 rw",
    ]


def test_default_nodes_are_the_six_of_the_runtime_spec() -> None:
    nodes = {node.path: (node.major, node.minor, node.mode) for node in devices.DEFAULT_NODES}
    assert nodes == {
        "/dev/null": (1, 3, 0o666),
        "/dev/zero": (1, 5, 0o666),
        "/dev/full": (1, 7, 0o666),
        "/dev/random": (1, 8, 0o666),
        "/dev/urandom": (1, 9, 0o666),
        "/dev/tty": (5, 0, 0o666),
    }


def test_given_devices_come_after_the_default() -> None:
    fuse = devices.Device("/dev/fuse", "c", 10, 229)
    extra = devices.parse_rule("b 8:* r")
    assert lines(devices.rules([(fuse, "rw")], [extra]))[-2:] == [
        "allow c 10:229 rw",
        "allow b 8:* r",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [("c 188:* rmw", "allow c 188:* rwm"), ("a *:* rwm", "allow a"), ("b 7:1 r", "allow b 7:1 r")],
)
def test_rules_of_users_are_parsed(text: str, line: str) -> None:
    assert lines((devices.parse_rule(text),)) == [line]


@pytest.mark.parametrize(
    "text", ["", "c 1:3", "d 1:3 r", "c 1:3 x", "c -1:3 r", "c 1:3 rr", "c 1:3 rwm\n", "c  1:3 r"]
)
def test_other_rules_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        devices.parse_rule(text)


@pytest.mark.parametrize("text", ["", "x", "rwmr", "rw "])
def test_other_permissions_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="device mode"):
        devices.parse_access(text)
