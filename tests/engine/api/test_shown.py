from __future__ import annotations

from dataclasses import replace

import pytest

from engine.api.fields import Fields
from engine.api.shown import (
    container_json,
    container_summary,
    host_config_json,
    human_duration,
    links_json,
    mount_json,
    networks_json,
    port_map,
    quoted,
    status_text,
    timestamp,
    unconfined_json,
)
from engine.api.wire import read_endpoint, read_host_config
from engine.containers.model import (
    Attachment,
    ContainerConfig,
    EndpointSettings,
    HealthState,
    HostConfig,
    MountPoint,
    Record,
    State,
    Status,
)
from engine.networks.model import Endpoint, PortBinding

SECOND = 10**9
START = 1763772279079667626


def record(**changes: object) -> Record:
    given: dict[str, object] = {
        "id": "a" * 64,
        "name": "web",
        "created": START,
        "config": ContainerConfig(image="x", exposed_ports=("80/tcp", "53/udp")),
        "host": HostConfig(),
        "image_id": "sha256:" + "b" * 64,
        "path": "sh",
        "args": ("-c", "true"),
    }
    return Record(**(given | changes))  # type: ignore[arg-type]


def test_an_address_asked_for_on_the_first_network_is_shown_twice() -> None:
    place = Attachment("back", EndpointSettings(mac_address="02:42:ac:11:00:07"))
    for mode, shown in (("back", "02:42:ac:11:00:07"), ("front", None)):
        one = record(host=HostConfig(network_mode=mode), attachments=(place,))
        assert container_json(one)["Config"].get("MacAddress") == shown


@pytest.mark.parametrize(
    ("state", "is_named"),
    [
        (State(), False),
        (State(status=Status.RUNNING, started_at=START), True),
        (State(exit_code=127, error="no such file"), True),
    ],
)
def test_the_first_start_names_the_files_of_a_container(state: State, is_named: bool) -> None:
    shown = container_json(record(state=state, hosts_path="/h", log_path="/l"))
    assert (shown["HostsPath"], shown["LogPath"]) == (("/h", "/l") if is_named else ("", ""))


def test_times_have_nine_digits_and_a_zero_time_is_gos() -> None:
    assert timestamp(START) == "2025-11-22T00:44:39.079667626Z"
    assert timestamp(START // SECOND * SECOND) == "2025-11-22T00:44:39.000000000Z"
    assert timestamp(0) == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "Less than a second"),
        (1.9, "1 second"),
        (2, "2 seconds"),
        (59.9, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (5400, "2 hours"),
        (3600 * 47, "47 hours"),
        (3600 * 48, "2 days"),
        (3600 * 24 * 14, "2 weeks"),
        (3600 * 24 * 60, "2 months"),
        (3600 * 24 * 365 * 2, "2 years"),
    ],
)
def test_durations_are_said_as_docker_says_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(), "Created"),
        (State(Status.RUNNING, started_at=START), "Up 9 seconds"),
        (
            State(Status.RUNNING, started_at=START, health=HealthState("healthy")),
            "Up 9 seconds (healthy)",
        ),
        (
            State(Status.RUNNING, started_at=START, health=HealthState("starting")),
            "Up 9 seconds (health: starting)",
        ),
        (State(Status.PAUSED, started_at=START), "Up 9 seconds (Paused)"),
        (
            State(Status.EXITED, exit_code=137, finished_at=START),
            "Exited (137) 9 seconds ago",
        ),
        (
            State(Status.RESTARTING, exit_code=1, finished_at=START),
            "Restarting (1) 9 seconds ago",
        ),
        (State(Status.REMOVING), "Removal In Progress"),
        (State(Status.DEAD), "Dead"),
    ],
)
def test_a_status_is_one_line(state: State, text: str) -> None:
    assert status_text(state, START + 9 * SECOND) == text


def test_ports_are_shown_while_it_runs_on_a_network() -> None:
    bound = (PortBinding(80, "tcp", "0.0.0.0", 8080), PortBinding(80, "tcp", "::", 8080))
    place = Endpoint("e", "id", "bridge", "c", "web", gateway="172.17.0.1")
    attached = Attachment("bridge", endpoint=place)
    running = record(state=State(Status.RUNNING), ports=bound, attachments=(attached,))
    summary = container_summary(running, image="x", now=START)
    assert summary["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
        {"PrivatePort": 53, "Type": "udp"},
    ]
    assert port_map(running.config.exposed_ports, bound) == {
        "80/tcp": [
            {"HostIp": "0.0.0.0", "HostPort": "8080"},
            {"HostIp": "::", "HostPort": "8080"},
        ],
        "53/udp": None,
    }
    elsewhere = (
        (Status.EXITED, ()),
        (Status.RUNNING, ()),  # another's network, or none any more
        # The host's, none, or an internal one: they have no gateway.
        (Status.RUNNING, (replace(attached, endpoint=replace(place, gateway="")),)),
    )
    for status, attachments in elsewhere:
        without = record(state=State(status), ports=bound, attachments=attachments)
        assert container_summary(without, image="x", now=START)["Ports"] == []
        settings = container_json(without)["NetworkSettings"]
        assert isinstance(settings, dict)
        assert settings["Ports"] == {}


def test_a_summary_has_seconds_and_one_string_of_a_command() -> None:
    summary = container_summary(record(), image="x", now=START)
    assert summary["Created"] == START // SECOND
    assert summary["Command"] == "sh -c true"
    assert summary["Names"] == ["/web"]
    assert summary["Labels"] == {}


def test_the_fields_beside_networks_tell_of_the_default_bridge() -> None:
    endpoint = Endpoint(
        "e" * 64, "n" * 64, "bridge", "a" * 64, "web", ipv4_address="172.17.0.2", ipv4_prefix=16,
        gateway="172.17.0.1", mac_address="02:42:ac:11:00:02",
    )  # fmt: skip
    shown = container_json(
        record(
            state=State(Status.RUNNING, pid=5),
            attachments=(Attachment("bridge", network_id="n" * 64, endpoint=endpoint),),
        )
    )
    settings = shown["NetworkSettings"]
    assert isinstance(settings, dict)
    assert settings["IPAddress"] == "172.17.0.2"
    assert settings["Networks"]["bridge"]["NetworkID"] == "n" * 64


def test_health_is_there_only_with_a_check() -> None:
    assert "Health" not in container_json(record())["State"]  # type: ignore[operator]
    shown = container_json(record(state=State(health=HealthState("starting"))))
    assert shown["State"]["Health"] == {  # type: ignore[index]
        "Status": "starting",
        "FailingStreak": 0,
        "Log": [],
    }


def test_a_volume_mount_is_shown_as_docker_shows_it() -> None:
    mount = MountPoint("volume", "/d", "/data/v/_data", "v", "local")
    assert mount_json(mount) == {
        "Type": "volume",
        "Name": "v",
        "Source": "/data/v/_data",
        "Destination": "/d",
        "Driver": "local",
        "Mode": "z",
        "RW": True,
        "Propagation": "",
    }


def test_arguments_with_blanks_are_quoted_in_the_list() -> None:
    assert quoted("echo a b") == "'echo a b'"
    assert quoted("-c") == "-c"


def test_lists_that_were_given_empty_are_shown_empty() -> None:
    asked = read_host_config(Fields({"Dns": [], "PortBindings": {}, "Binds": None}))
    shown = host_config_json(asked)
    assert (shown["Dns"], shown["PortBindings"]) == ([], {})
    assert (shown["Binds"], shown["Devices"], shown["Ulimits"]) == (None, None, None)


def test_an_endpoint_shows_what_was_given_empty() -> None:
    given = {"IPAMConfig": {"IPv4Address": ""}, "Aliases": [], "DriverOpts": {}, "Links": None}
    places = (
        Attachment("front", read_endpoint(Fields(given))),
        Attachment("back", read_endpoint(Fields({}))),
    )
    shown = networks_json(record(attachments=places))
    keys = ("IPAMConfig", "Aliases", "DriverOpts", "Links")
    assert [shown["front"][key] for key in keys] == [{}, [], {}, None]
    assert [shown["back"][key] for key in keys] == [None] * 4


def test_one_with_its_network_disabled_can_be_made_again_as_it_is_shown() -> None:
    places = (Attachment("none"),)
    assert list(networks_json(record(attachments=places))) == ["none"]
    disabled = ContainerConfig(image="x", network_disabled=True)
    assert networks_json(record(attachments=places, config=disabled)) == {}


def test_who_sees_the_host_is_shown_without_labels_and_masks() -> None:
    assert unconfined_json(HostConfig()) == {}
    assert unconfined_json(HostConfig(pid_mode="host")) == {"SecurityOpt": ("label=disable",)}
    asked = HostConfig(privileged=True, security_opt=("label=disable",), masked_paths=("/proc/x",))
    assert unconfined_json(asked) == {"MaskedPaths": ("/proc/x",), "ReadonlyPaths": None}


def test_links_of_the_default_bridge_are_shown_with_all_names() -> None:
    host = HostConfig(network_mode="bridge", links=("db:store",))
    assert links_json(record(host=host)) == ["/db:/web/store"]
    assert links_json(record(host=replace(host, network_mode="net"))) == []
