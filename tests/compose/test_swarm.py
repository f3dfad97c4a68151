"""The same update, by Swarm itself (a dockerd that is a manager of one) and by pycompose: what
comes of it is the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from compose import converge, life
from compose.apply.errors import StepsFailed
from compose.client.address import UnixAddress
from compose.client.engine import Engine, connect
from compose.converge import UpOptions
from compose.model.deploy import Deploy, UpdateConfig
from compose.model.mount import Mount, MountType
from compose.model.project import Project
from compose.model.resources import Volume
from compose.model.service import Service
from compose.model.units import Duration
from compose.plan.options import DownOptions
from tests.compose.engines import IMAGE
from tests.compose.projects import check, make_project, make_service

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(180)]

SECOND = 1_000_000_000
OLD = "touch /tmp/ok; exec sleep 1000"
# Each new one takes a number, and those whose number is in $BAD fail: at once, or after a second.
NEW = """\
n=1; while ! mkdir /shared/$n 2>/dev/null; do n=$((n+1)); done
case " $BAD " in *" $n "*) sleep $AFTER; exit 3;; esac
touch /tmp/ok; exec sleep 2000
"""


@dataclass(frozen=True)
class Case:
    update: UpdateConfig
    bad: str
    rollback: UpdateConfig | None = None
    replicas: int = 4
    checked: bool = True
    after: str = "0"  # seconds until the bad ones fail
    old: str = OLD


def config(**fields: object) -> UpdateConfig:
    """The delay gives Swarm time to learn of a failure: without one, it may replace one more."""
    pace = {"monitor": Duration(2 * SECOND), "delay": Duration(SECOND // 2)}
    return UpdateConfig(**{**pace, **fields})  # type: ignore[arg-type]


CASES = {
    "all well": Case(config(), ""),
    "paused": Case(config(), "2"),
    # Under load Swarm is slow to learn of it, and would go on.
    "paused, several at once": Case(config(parallelism=2, delay=Duration(3 * SECOND)), "1"),
    "paused, the new one first": Case(config(order="start-first"), "3"),
    "rolled back": Case(config(failure_action="rollback"), "3"),
    "goes on": Case(config(failure_action="continue", parallelism=0), "1 3"),
    "few enough": Case(config(max_failure_ratio=0.25), "2"),
    "one too many": Case(config(max_failure_ratio=0.25), "1 2"),
    "dies while it is watched": Case(config(), "4", checked=False, after="1"),
    "the way back is paused": Case(
        config(failure_action="rollback"), "2", rollback=config(order="start-first"),
        old=f"test -e /shared/1 && exit 5; {OLD}",
    ),
}  # fmt: skip


@pytest.fixture
async def manager(engine_socket: Callable[[str], str]) -> Engine:
    engine = await connect(UnixAddress(engine_socket("dockerd")))
    state = (await engine.info())["Swarm"]
    assert isinstance(state, dict)
    if state["LocalNodeState"] != "active":
        body = {"ListenAddr": "127.0.0.1:2377", "AdvertiseAddr": "127.0.0.1"}
        await engine.transport.json("POST", "/swarm/init", body=body)
    return engine


@pytest.mark.parametrize("name", CASES)
async def test_what_comes_of_it_is_what_swarm_makes_of_it(
    manager: Engine, engine_socket: Callable[[str], str], name: str
) -> None:
    case, project = CASES[name], f"s{list(CASES).index(name)}"
    ours = await connect(UnixAddress(engine_socket("pyengine")))
    async with asyncio.TaskGroup() as group:
        there = group.create_task(by_swarm(manager, case, project))
        here = group.create_task(by_us(ours, case, project))
    assert here.result() == there.result()


# --- here


def service(case: Case, command: str) -> Service:
    return make_service(
        "web",
        command=("sh", "-c", command),
        environment={"BAD": case.bad, "AFTER": case.after},
        healthcheck=check("test", "-e", "/tmp/ok") if case.checked else None,
        volumes=(Mount(MountType.VOLUME, "/shared", "shared"),),
        deploy=Deploy(
            replicas=case.replicas, update_config=case.update, rollback_config=case.rollback
        ),
    )


def declared(case: Case, command: str, name: str) -> Project:
    volumes = {"shared": Volume("shared", f"{name}_shared")}
    return make_project(service(case, command), name=name, volumes=volumes)


async def by_us(engine: Engine, case: Case, name: str) -> tuple[str, Counter[str]]:
    labels = {"label": [f"com.docker.compose.project={name}"]}
    try:
        await converge.up(engine, declared(case, case.old, name), UpOptions(wait=True))
        old = {row.id for row in await engine.containers.list(filters=labels)}
        status = "completed"
        try:
            await converge.up(engine, declared(case, NEW, name), UpOptions())
        except StepsFailed as error:
            way = "rollback_" if case.update.failure_action == "rollback" else ""
            status = way + ("paused" if error.paused else "completed")
        rows = await engine.containers.list(filters=labels)
        return status, Counter(
            "old" if r.id in old else "new" for r in rows if r.state == "running"
        )
    finally:
        await life.down(engine, name, None, DownOptions(volumes=True, timeout=0))


# --- there

ENDED = ("complete", "failed", "shutdown", "rejected", "orphaned", "remove")


def spec(case: Case, command: str, name: str) -> dict[str, object]:
    container: dict[str, object] = {
        "Image": IMAGE,
        "Command": ["sh", "-c", command],
        "Env": [f"BAD={case.bad}", f"AFTER={case.after}"],
        "Mounts": [{"Type": "volume", "Source": f"{name}_shared", "Target": "/shared"}],
        "StopGracePeriod": 1,
    }
    if case.checked:
        container["Healthcheck"] = {
            "Test": ["CMD", "test", "-e", "/tmp/ok"], "Interval": SECOND // 10, "Retries": 100,
        }  # fmt: skip
    found: dict[str, object] = {
        "Name": name,
        "TaskTemplate": {"ContainerSpec": container, "RestartPolicy": {"Condition": "none"}},
        "Mode": {"Replicated": {"Replicas": case.replicas}},
        "EndpointSpec": {"Mode": "dnsrr"},
    }
    for key, each in (("UpdateConfig", case.update), ("RollbackConfig", case.rollback)):
        if each is not None:
            found[key] = {
                "Parallelism": 1 if each.parallelism is None else each.parallelism,
                "FailureAction": each.failure_action or "pause",
                "Monitor": each.monitor,
                "Delay": each.delay,
                "MaxFailureRatio": each.max_failure_ratio,
                "Order": each.order or "stop-first",
            }
    return found


async def by_swarm(engine: Engine, case: Case, name: str) -> tuple[str, Counter[str]]:
    call = engine.transport.json
    made = await call("POST", "/services/create", body=spec(case, case.old, name))
    assert isinstance(made, dict)
    path = f"/services/{made['ID']}"
    try:
        old: Counter[str] = Counter()
        while old["old"] < case.replicas:
            old = await running(engine, name)
        now = await call("GET", path)
        assert isinstance(now, dict)
        query = {"version": now["Version"]["Index"]}
        await call("POST", f"{path}/update", query=query, body=spec(case, NEW, name))
        status = ""
        while not status.endswith(("completed", "paused")):
            await asyncio.sleep(0.1)
            now = await call("GET", path)
            assert isinstance(now, dict)
            status = (now.get("UpdateStatus") or {}).get("State", "")
        return status, await running(engine, name)
    finally:
        await call("DELETE", path)


async def running(engine: Engine, name: str) -> Counter[str]:
    """Once nobody is on the way up or down."""
    while True:
        rows = await engine.transport.json("GET", "/tasks")
        assert isinstance(rows, list)
        specs = [(row, row["Spec"]["ContainerSpec"]) for row in rows]
        own = [(row, s) for row, s in specs if s["Mounts"][0]["Source"] == f"{name}_shared"]
        states = [(row["Status"]["State"], row["DesiredState"]) for row, _ in own]
        if all(each == ("running", "running") or each[0] in ENDED for each in states):
            return Counter(
                "new" if spec["Command"][-1] == NEW else "old"
                for row, spec in own
                if row["Status"]["State"] == "running"
            )
        await asyncio.sleep(0.1)  # Swarm tells of tasks in no event
