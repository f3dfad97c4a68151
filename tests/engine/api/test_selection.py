from __future__ import annotations

import pytest

from engine.api.selection import (
    ContainerFacts,
    select_containers,
    select_networks,
    select_volumes,
    wanted_for_prune,
)
from engine.containers.model import (
    Attachment,
    ContainerConfig,
    HealthState,
    HostConfig,
    MountPoint,
    Record,
    State,
    Status,
)
from engine.errors import InvalidRequest, NotFound
from engine.filters import Filters
from engine.networks.model import Endpoint, Network, PortBinding
from engine.volumes.model import Volume

NOW = 1_700_000_000 * 10**9


def record(name: str, created: int, state: State, **changes: object) -> Record:
    given: dict[str, object] = {
        "id": name.encode().hex().ljust(64, "0"),
        "name": name,
        "created": created,
        "config": ContainerConfig(image="x", labels={"project": "p", "name": name}),
        "host": HostConfig(),
        "image_id": f"sha256:{name}",
        "path": "sh",
        "args": (),
        "state": state,
    }
    return Record(**(given | changes))  # type: ignore[arg-type]


WEB = record(
    "web", 3, State(Status.RUNNING, health=HealthState("healthy")),
    ports=(PortBinding(80, "tcp", "0.0.0.0", 8080),),
    attachments=(
        Attachment(
            "front", network_id="f" * 64,
            endpoint=Endpoint("e", "f" * 64, "front", "c", "web", gateway="172.18.0.1"),
        ),
    ),
)  # fmt: skip
DB = record("db", 2, State(Status.PAUSED), mounts=(MountPoint("volume", "/data", name="v"),))
JOB = record("job", 1, State(Status.EXITED, exit_code=3))
ALL = (WEB, DB, JOB)
FACTS = ContainerFacts(
    find={one.name: one for one in ALL}.get,
    descends=lambda one, image: one.image_id == f"sha256:{image}",
)


def names(show_all: bool = True, limit: int = 0, **values: str | list[str]) -> list[str]:
    filters = Filters(
        {
            key.replace("_", "-"): tuple([value] if isinstance(value, str) else value)
            for key, value in values.items()
        }
    )
    chosen = select_containers(ALL, filters, show_all=show_all, limit=limit, facts=FACTS)
    return [one.name for one in chosen]


def test_running_ones_are_shown_unless_all_are_asked_for() -> None:
    assert names(show_all=False) == ["web", "db"]
    assert names() == ["web", "db", "job"]


def test_a_status_or_a_limit_implies_all() -> None:
    assert names(show_all=False, status="exited") == ["job"]
    assert names(show_all=False, limit=3) == ["web", "db", "job"]
    assert names(limit=1) == ["web"]


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("label", "project=p", ["web", "db", "job"]),
        ("label", ["project=p", "name=db"], ["db"]),
        ("name", "^/?d", ["db"]),
        ("name", ["web", "job"], ["web", "job"]),
        ("id", WEB.id[:5], ["web"]),
        ("status", ["paused", "exited"], ["db", "job"]),
        ("exited", "3", ["job"]),
        ("exited", "0", []),
        ("health", "healthy", ["web"]),
        ("health", "none", ["db", "job"]),
        ("network", "front", ["web"]),
        ("network", "f" * 64, ["web"]),
        ("volume", "v", ["db"]),
        ("volume", "/data", ["db"]),
        ("publish", "8080", ["web"]),
        ("publish", "80", []),
        ("expose", "80/tcp", ["web"]),
        ("expose", "70-90", ["web"]),
        ("expose", "80/udp", []),
        ("ancestor", "db", ["db"]),
        ("before", "db", ["job"]),
        ("since", "db", ["web"]),
        ("is_task", "false", ["web", "db", "job"]),
        ("is_task", "true", []),
    ],
)
def test_each_filter_chooses(key: str, value: str | list[str], found: list[str]) -> None:
    assert names(**{key: value}) == found


@pytest.mark.parametrize(
    ("key", "value"),
    [("status", "xx"), ("nosuch", "x"), ("exited", "x"), ("publish", "x"), ("health", "ill")],
)
def test_a_bad_filter_is_refused(key: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid filter"):
        names(**{key: value})


def test_before_one_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound, match="No such container: nosuch"):
        names(before="nosuch")


def test_a_prune_takes_what_is_old_and_not_refused() -> None:
    wanted = wanted_for_prune(Filters({"until": ("1h",), "label!": ("keep",)}), now=NOW)
    assert wanted({}, NOW - 7200 * 10**9)
    assert not wanted({}, NOW - 60 * 10**9)
    assert not wanted({"keep": ""}, NOW - 7200 * 10**9)


def test_networks_are_chosen() -> None:
    def network(name: str) -> Network:
        return Network(name.ljust(64, "0"), name, "bridge", 0, (), "", labels={"n": name})

    networks = (network("bridge"), network("front"), network("back"))

    def chosen(key: str, value: str) -> list[str]:
        found = select_networks(
            networks, Filters({key: (value,)}), is_used=lambda one: one.startswith("front")
        )
        return [one.name for one in found]

    assert chosen("name", "^fr") == ["front"]
    assert chosen("type", "custom") == ["front", "back"]
    assert chosen("type", "builtin") == ["bridge"]
    assert chosen("dangling", "true") == ["back"]
    assert chosen("dangling", "false") == ["bridge", "front"]
    assert chosen("label", "n=back") == ["back"]
    assert chosen("driver", "overlay") == []


def test_volumes_are_chosen() -> None:
    volumes = (Volume("a1", "", ""), Volume("b1", "", "", labels={"x": "y"}))

    def chosen(key: str, value: str) -> list[str]:
        found = select_volumes(volumes, Filters({key: (value,)}), is_used=lambda one: one == "a1")
        return [one.name for one in found]

    assert chosen("name", "1") == ["a1", "b1"]
    assert chosen("dangling", "1") == ["b1"]
    assert chosen("label", "x") == ["b1"]
