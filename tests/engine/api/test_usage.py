"""What lists say of use, with containers that use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engine.api.conftest import Make
from tests.host import Daemon

UNUSED = "?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D"


@pytest.fixture
def network(engine: Daemon) -> Iterator[str]:
    status, answer = engine.call("POST", "/networks/create", {"Name": "used"})
    assert status == 201, answer
    yield "used"
    engine.call("DELETE", "/networks/used")


def unused_networks(engine: Daemon) -> list[str]:
    _, found = engine.call("GET", f"/networks{UNUSED}")
    assert isinstance(found, list)
    return [network["Name"] for network in found]


def test_a_network_is_unused_until_a_container_runs_in_it(
    engine: Daemon, network: str, make: Make
) -> None:
    container = make("sleep", "60", HostConfig={"NetworkMode": network})
    assert unused_networks(engine) == [network]
    engine.call("POST", f"/containers/{container}/start")
    assert unused_networks(engine) == []
    engine.call("DELETE", f"/containers/{container}?force=1")
    assert unused_networks(engine) == [network]


def test_volumes_and_images_tell_how_many_containers_use_them(engine: Daemon, make: Make) -> None:
    containers = [make("true", HostConfig={"Binds": ["counted:/data"]}) for _ in range(2)]
    engine.call("POST", "/volumes/create", {"Name": "idle"})
    _, used = engine.call("GET", "/system/df")
    assert isinstance(used, dict)
    counts = {volume["Name"]: volume["UsageData"]["RefCount"] for volume in used["Volumes"]}
    assert (counts["counted"], counts["idle"]) == (2, 0)
    assert 2 in [image["Containers"] for image in used["Images"]], used["Images"]
    _, found = engine.call("GET", f"/volumes{UNUSED}")
    assert isinstance(found, dict)
    assert [volume["Name"] for volume in found["Volumes"]] == ["idle"]
    for container in containers:
        engine.call("DELETE", f"/containers/{container}")
    for volume in ("idle", "counted"):
        assert engine.call("DELETE", f"/volumes/{volume}")[0] == 204
