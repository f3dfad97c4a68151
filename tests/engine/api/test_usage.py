"""What lists say of use, with containers that use it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

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


def test_the_networks_of_the_host_and_of_none_list_who_is_there(engine: Daemon, make: Make) -> None:
    for network in ("host", "none"):
        name = make("sleep", "60", HostConfig={"NetworkMode": network})
        engine.call("POST", f"/containers/{name}/start")
        _, found = engine.call("GET", f"/networks/{network}")
        assert isinstance(found, dict)
        assert name in [one["Name"] for one in found["Containers"].values()]


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


@pytest.mark.parametrize("path", ["/containers/json", "/images/json", "/networks", "/volumes"])
def test_a_list_of_nothing_is_a_list(engine: Daemon, path: str) -> None:
    nobody = quote(json.dumps({"label": ["nosuch"]}))
    _, found = engine.call("GET", f"{path}?filters={nobody}")
    assert found == ({"Volumes": [], "Warnings": None} if path == "/volumes" else [])


def test_events_tell_of_images_by_what_was_done_to_them(engine: Daemon, make: Make) -> None:
    name = make("true")
    status, made = engine.call("POST", f"/commit?container={name}&repo=committed&tag=2")
    assert status == 201
    assert isinstance(made, dict)
    assert engine.call("POST", f"/images/{made['Id']}/tag?repo=again")[0] == 201
    assert engine.call("DELETE", "/images/again")[0] == 200
    assert engine.call("DELETE", "/images/committed:2")[0] == 200
    status, lines = engine.call(
        "GET", f"/events?since=1&until={time.time():.6f}&filters={{%22type%22:[%22image%22]}}"
    )
    assert status == 200
    events = [json.loads(line) for line in str(lines).splitlines()]
    told = [
        (event["Action"], event["Actor"]["Attributes"]["name"])
        for event in events
        if event["Actor"]["ID"] == made["Id"]
    ]
    assert told == [
        ("create", made["Id"]), ("tag", "committed:2"), ("tag", "again:latest"),
        ("untag", made["Id"]), ("untag", made["Id"]), ("delete", made["Id"]),
    ]  # fmt: skip


def test_the_order_in_which_a_life_is_told(engine: Daemon, network: str, make: Make) -> None:
    """Docker's: who waits for `die` finds networks and volumes let go."""
    since = time.time_ns() / 1e9
    name = make("sleep", "60", HostConfig={"NetworkMode": network, "Binds": ["told:/data"]})
    engine.call("POST", f"/containers/{name}/start")
    _, made = engine.call("POST", f"/containers/{name}/exec", {"Cmd": ["nosuch"]})
    assert isinstance(made, dict)
    engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})
    assert engine.call("POST", f"/commit?container={name}&repo=told")[0] == 201
    engine.call("POST", f"/containers/{name}/kill")
    engine.call("POST", f"/containers/{name}/wait")
    engine.call("DELETE", f"/containers/{name}")
    everything = quote(json.dumps({"all": ["1"]}))
    _, pruned = engine.call("POST", f"/volumes/prune?filters={everything}")
    assert isinstance(pruned, dict)
    assert pruned["VolumesDeleted"] == ["told"]
    engine.call("DELETE", "/images/told")
    _, lines = engine.call("GET", f"/events?since={since:.9f}&until={time.time():.9f}")
    events = [json.loads(line) for line in str(lines).splitlines()]
    assert [f"{event['Type']} {event['Action']}" for event in events] == [
        "volume create", "container create",
        "volume mount", "network connect", "container start",
        "container exec_create: nosuch ", "container exec_start: nosuch ",
        "container pause", "image create", "image tag", "container commit", "container unpause",
        "container kill", "network disconnect", "volume unmount", "container die",
        "container destroy", "volume destroy", "volume prune", "image untag", "image delete",
    ]  # fmt: skip


def test_an_ancestor_is_what_an_image_was_committed_on(engine: Daemon, make: Make) -> None:
    """Not whatever has the same layers below: a commit without changes has those of its parent."""
    below = make("true")
    engine.call("POST", f"/commit?container={below}&repo=line&tag=1")
    engine.call("POST", f"/commit?container={below}&repo=line&tag=2")
    first, other = make("true", Image="line:1"), make("true", Image="line:2")
    engine.call("POST", f"/commit?container={first}&repo=line&tag=3")
    second = make("true", Image="line:3")

    def found(ancestor: str) -> set[str]:
        filters = quote(json.dumps({"ancestor": [ancestor]}))
        _, containers = engine.call("GET", f"/containers/json?all=1&filters={filters}")
        assert isinstance(containers, list)
        return {container["Names"][0].lstrip("/") for container in containers}

    assert found("line:1") == {first, second}
    assert found("line:2") == {other}
    assert found("line:3") == {second}
    engine.call("POST", f"/commit?container={below}&repo=line&tag=1")  # another has the name now
    assert found("line:1") == set()
    for name in (first, second, other):
        engine.call("DELETE", f"/containers/{name}")
    for tag in (1, 2, 3):
        engine.call("DELETE", f"/images/line:{tag}")


def test_a_stream_of_one_sample_is_a_contradiction(engine: Daemon, make: Make) -> None:
    assert engine.call("GET", f"/containers/{make('true')}/stats?stream=1&one-shot=1") == (
        400,
        {"message": "cannot have stream=true and one-shot=true"},
    )
