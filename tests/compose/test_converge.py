"""Whole changes on real engines, checked by the state that they leave."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from compose import change, converge, life
from compose.apply.errors import StepsFailed, WaitFailed
from compose.apply.executor import apply_plan
from compose.apply.listener import Finished, Hooked, Note, Report, Started, silent
from compose.apply.perform import Performer
from compose.apply.watch import watch_containers
from compose.client.containers import ContainerDetails
from compose.client.engine import Engine
from compose.client.streams import outputs, read_blocks
from compose.converge import UpOptions
from compose.errors import Busy, ProjectError
from compose.model.mount import FileReference, Mount, MountType
from compose.model.port import Port
from compose.model.project import Project
from compose.model.resources import ConfigFile, Network, Secret, Volume
from compose.model.service import Attachment, Condition, Dependency, Hook, Service
from compose.observe import observe
from compose.plan.life import make_kill_plan
from compose.plan.options import DownOptions, PlanOptions
from compose.plan.text import text
from tests.compose.engines import IMAGE
from tests.compose.projects import check, make_project, make_service, needs

COUNT = itertools.count(1)
WAIT = UpOptions(wait=True, wait_timeout=60)


@pytest.fixture
async def name(engine: Engine) -> AsyncIterator[str]:
    """A project of this name is gone after the test, and nothing of it is left."""
    chosen = f"t{next(COUNT)}"
    yield chosen
    await life.down(engine, chosen, None, DownOptions(volumes=True, timeout=0))
    left = [c.name for c in await engine.containers.list() if c.name.startswith(f"{chosen}-")]
    left += [n.name for n in await engine.networks.list() if n.name.startswith(f"{chosen}_")]
    left += [v.name for v in await engine.volumes.list() if v.name.startswith(f"{chosen}_")]
    assert left == []


def changed(project: Project, *services: Service) -> Project:
    kept = {**project.services, **{service.name: service for service in services}}
    return replace(project, services=kept)


async def states(engine: Engine, project: str) -> dict[str, str]:
    filters = {"label": [f"com.docker.compose.project={project}"]}
    return {c.name: c.state for c in await engine.containers.list(filters=filters)}


async def inspect(engine: Engine, container: str) -> ContainerDetails:
    return await engine.containers.inspect(container)


async def run(engine: Engine, container: str, *command: str) -> str:
    exec_id = await engine.containers.create_exec(container, command)
    duplex = await engine.containers.start_exec(exec_id)
    said = b"".join([o.text async for o in outputs(read_blocks(duplex), tty=False)])
    await duplex.close()
    return said.decode()


@pytest.mark.peer
async def test_up_makes_it_run_a_second_up_does_nothing_and_down_leaves_nothing(
    engine: Engine, name: str
) -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY, job=Condition.COMPLETED)),
        make_service("job", command=("true",)),
        make_service(
            "db",
            command=("sh", "-c", "touch /tmp/ok; sleep 1000"),
            healthcheck=check("test", "-f", "/tmp/ok"),
            networks={"default": Attachment(), "back": Attachment(aliases=("store",))},
            volumes=(Mount(MountType.VOLUME, "/data", "data"),),
        ),
        name=name,
        volumes={"data": Volume("data", f"{name}_data")},
    )
    outcome = await converge.up(engine, project, WAIT)
    assert {service: len(ids) for service, ids in outcome.containers.items()} == {
        "db": 1, "job": 1, "web": 1,
    }  # fmt: skip
    before = await states(engine, name)
    assert before == {
        f"{name}-db-1": "running", f"{name}-job-1": "exited", f"{name}-web-1": "running",
    }  # fmt: skip
    (row,) = [c for c in await engine.containers.list() if c.name == f"{name}-db-1"]
    assert sorted(row.networks) == [f"{name}_back", f"{name}_default"]
    reports: list[Report] = []
    again = await converge.up(engine, project, UpOptions(), reports.append)
    assert again.plan.is_empty
    assert not [report for report in reports if isinstance(report, Started)]
    assert await states(engine, name) == before


async def test_one_change_touches_one_service(engine: Engine, name: str) -> None:
    project = make_project(make_service("web"), make_service("db"), name=name)
    first = await converge.up(engine, project, UpOptions())
    newer = changed(project, make_service("web", environment={"A": "1"}))
    second = await converge.up(engine, newer, UpOptions())
    assert text(second.plan) == "recreate web.1   environment.A unset -> 1\n"
    assert second.containers["db"] == first.containers["db"]
    assert second.containers["web"] != first.containers["web"]
    assert await states(engine, name) == {f"{name}-db-1": "running", f"{name}-web-1": "running"}
    assert "A=1" in await run(engine, f"{name}-web-1", "env")


@pytest.mark.peer
async def test_data_of_anonymous_volumes_survives_a_recreation(engine: Engine, name: str) -> None:
    anonymous = (Mount(MountType.VOLUME, "/cache"),)
    project = make_project(make_service("web", volumes=anonymous), name=name)
    await converge.up(engine, project, UpOptions())
    await run(engine, f"{name}-web-1", "sh", "-c", "echo kept > /cache/file")
    newer = changed(project, make_service("web", volumes=anonymous, environment={"A": "1"}))
    await converge.up(engine, newer, UpOptions())
    assert await run(engine, f"{name}-web-1", "cat", "/cache/file") == "kept\n"


@pytest.mark.peer
async def test_an_update_that_cannot_start_leaves_the_old_one_running(
    engine: Engine, name: str
) -> None:
    project = make_project(make_service("web"), name=name)
    first = await converge.up(engine, project, UpOptions())
    broken = changed(project, make_service("web", command=("nosuch",)))
    with pytest.raises(StepsFailed, match=r"cannot start web\.1: .*executable file not found"):
        await converge.up(engine, broken, UpOptions())
    assert await states(engine, name) == {f"{name}-web-1": "running"}
    again = await converge.up(engine, project, UpOptions())
    assert again.plan.is_empty
    assert again.containers == first.containers


async def test_a_first_up_that_fails_leaves_nothing_half_made(engine: Engine, name: str) -> None:
    bad = make_service("bad", user="", cap_add=("NO_SUCH_CAPABILITY",))
    project = make_project(make_service("good"), bad, name=name)
    with pytest.raises(StepsFailed, match=r"cannot create bad\.1"):
        await converge.up(engine, project, UpOptions())
    assert await states(engine, name) == {}
    assert f"{name}_default" not in [network.name for network in await engine.networks.list()]


@pytest.mark.peer
async def test_of_a_first_up_that_fails_only_volumes_stay_that_somebody_ran_with(
    engine: Engine, name: str
) -> None:
    mount = Mount(MountType.VOLUME, "/data", "fresh")
    used = Mount(MountType.VOLUME, "/data", "used")
    project = make_project(
        make_service("db", volumes=(used,)),
        make_service("bad", command=("nosuch",), volumes=(mount,)),
        make_service("hooked", volumes=(Mount(MountType.VOLUME, "/data", "hooked"),),
                     post_start=(Hook(("sh", "-c", "echo 1 > /data/file; exit 1")),)),
        name=name,
        volumes={key: Volume(key, f"{name}_{key}") for key in ("used", "fresh", "hooked")},
    )  # fmt: skip
    with pytest.raises(StepsFailed) as caught:
        await converge.up(engine, project, UpOptions())
    assert "create volume fresh" in caught.value.undone
    left = {v.name for v in await engine.volumes.list() if v.name.startswith(f"{name}_")}
    assert left == {f"{name}_used", f"{name}_hooked"}


async def test_a_failing_job_is_told_with_its_code_and_its_last_words(
    engine: Engine, name: str
) -> None:
    project = make_project(
        make_service("web", depends_on=needs(job=Condition.COMPLETED)),
        make_service("job", command=("sh", "-c", "echo no database here; exit 4")),
        name=name,
    )
    with pytest.raises(StepsFailed) as caught:
        await converge.up(engine, project, UpOptions())
    assert str(caught.value) == (
        f"job did not complete: container {name}-job-1 exited with code 4\n"
        "  no database here\n"
        "not done because of that: create web.1"
    )
    assert await states(engine, name) == {f"{name}-job-1": "exited"}


@pytest.mark.peer
async def test_a_failing_check_is_told_with_what_the_probe_said(engine: Engine, name: str) -> None:
    sick = check("sh", "-c", "echo not today; exit 1", retries=2)
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY)),
        make_service("db", healthcheck=sick),
        name=name,
    )
    with pytest.raises(StepsFailed) as caught:
        await converge.up(engine, project, UpOptions())
    said = str(caught.value)
    assert f"db did not become healthy: container {name}-db-1 is unhealthy" in said
    assert "its check ended with 1: not today" in said


async def test_a_dependency_that_dies_while_it_is_waited_for_ends_the_wait(
    engine: Engine, name: str
) -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY)),
        make_service("db", command=("sh", "-c", "echo disk full; exit 9"),
                     healthcheck=check("false")),
        name=name,
    )  # fmt: skip
    with pytest.raises(StepsFailed, match=r"exited with code 9\n  disk full"):
        await converge.up(engine, project, UpOptions())


@pytest.mark.peer
async def test_a_restart_within_the_start_period_is_no_failure(engine: Engine, name: str) -> None:
    # It fails once, and is well the second time.
    script = "test -f /data/seen && { touch /tmp/ok; sleep 1000; }; touch /data/seen; exit 1"
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY)),
        make_service(
            "db",
            command=("sh", "-c", script),
            restart="always",
            healthcheck=check("test", "-f", "/tmp/ok", start_period=60),
            volumes=(Mount(MountType.VOLUME, "/data", "data"),),
        ),
        name=name,
        volumes={"data": Volume("data", f"{name}_data")},
    )
    await converge.up(engine, project, UpOptions())
    assert await states(engine, name) == {f"{name}-db-1": "running", f"{name}-web-1": "running"}


@pytest.mark.peer
async def test_a_status_from_before_the_start_does_not_count(engine: Engine, name: str) -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY)),
        make_service("db", command=("sh", "-c", "touch /tmp/ok; sleep 1000"),
                     healthcheck=check("test", "-f", "/tmp/ok", retries=1)),
        name=name,
    )  # fmt: skip
    await converge.up(engine, project, UpOptions())
    async with engine.events.subscribe(filters={"event": ["health_status"]}) as events:
        await run(engine, f"{name}-db-1", "rm", "/tmp/ok")
        event = await anext(events)
        assert event.detail == "unhealthy"
    await life.stop(engine, name, timeout=0)
    await converge.up(engine, project, UpOptions())
    assert (await inspect(engine, f"{name}-db-1")).health == "healthy"


async def test_an_optional_dependency_may_fail(engine: Engine, name: str) -> None:
    optional = {"db": Dependency("db", Condition.COMPLETED, required=False)}
    project = make_project(
        make_service("web", depends_on=optional),
        make_service("db", command=("false",)),
        name=name,
    )
    await converge.up(engine, project, UpOptions())
    assert (await states(engine, name))[f"{name}-web-1"] == "running"


async def test_waiting_fails_when_a_container_dies_after_it_was_up(
    engine: Engine, name: str
) -> None:
    dying = make_service("web", command=("sh", "-c", "sleep 0.7; echo oh no; exit 3"))
    project = make_project(dying, name=name)
    with pytest.raises(WaitFailed, match=rf"container {name}-web-1 exited with code 3\n  oh no"):
        await converge.up(engine, project, WAIT)


async def test_waiting_for_too_long_names_who_is_late(engine: Engine, name: str) -> None:
    project = make_project(
        make_service("web", healthcheck=check("false", start_period=100)), name=name
    )
    options = UpOptions(wait=True, wait_timeout=0.5)
    with pytest.raises(WaitFailed, match=r"not ready after 0\.5 s: t\d+-web-1 \(health: starting"):
        await converge.up(engine, project, options)


async def test_a_dependency_is_waited_for_no_longer_than_that(engine: Engine, name: str) -> None:
    needed = needs(db=Condition.HEALTHY, job=Condition.COMPLETED)
    project = make_project(
        make_service("web", depends_on=needed),
        make_service("db", healthcheck=check("false", start_period=100)),
        make_service("job"),
        name=name,
    )
    with pytest.raises(StepsFailed) as caught:
        await converge.up(engine, project, UpOptions(wait=True, wait_timeout=0.5))
    said = str(caught.value)
    assert re.search(
        r"db did not become healthy: not ready after 0\.5 s: \S+-db-1 \(health: starting", said
    )
    assert "job did not complete: not ready after 0.5 s: it still runs\n  hint: look" in said
    assert f"{name}-web-1" not in await states(engine, name)


async def test_scale_goes_up_and_down(engine: Engine, name: str) -> None:
    project = make_project(make_service("web"), name=name)
    for wanted in (3, 1, 0):
        options = UpOptions(PlanOptions(scale={"web": wanted}, timeout=0))
        await converge.up(engine, project, options)
        assert len(await states(engine, name)) == wanted


@pytest.mark.peer
async def test_a_changed_network_is_made_anew_under_its_containers(
    engine: Engine, name: str
) -> None:
    project = make_project(make_service("web"), make_service("other"), name=name)
    first = await converge.up(engine, project, UpOptions())
    network = Network("default", f"{name}_default", internal=True)
    newer = replace(project, networks={"default": network})
    second = await converge.up(engine, newer, UpOptions(PlanOptions(timeout=0)))
    assert second.containers == first.containers
    assert (await engine.networks.inspect(network.name)).internal
    assert set((await states(engine, name)).values()) == {"running"}
    assert (await converge.plan_up(engine, newer, PlanOptions())).is_empty


@pytest.mark.peer
async def test_contents_arrive_with_their_owner_and_mode_and_a_new_content_recreates(
    engine: Engine, name: str
) -> None:
    def project(content: str) -> Project:
        reader = make_service(
            "web",
            configs=(FileReference("page", target="/etc/page"),),
            secrets=(FileReference("key", uid="7", gid="8", mode=0o440),),
        )
        return make_project(
            reader,
            name=name,
            configs={"page": ConfigFile("page", f"{name}_page", inline=content,
                                        content=content.encode(), digest=f"sha256:{content}")},
            secrets={"key": Secret("key", f"{name}_key", environment="KEY",
                                   content=b"hidden", digest="sha256:k")},
        )  # fmt: skip

    await converge.up(engine, project("one"), UpOptions())
    web = f"{name}-web-1"
    assert await run(engine, web, "cat", "/etc/page", "/run/secrets/key") == "onehidden"
    assert await run(engine, web, "stat", "-c", "%a %u %g", "/run/secrets/key") == "440 7 8\n"
    outcome = await converge.up(engine, project("two"), UpOptions(PlanOptions(timeout=0)))
    assert "configs.page" in text(outcome.plan)
    assert await run(engine, web, "cat", "/etc/page") == "two"


async def test_hooks_run_after_the_start_and_before_the_stop(engine: Engine, name: str) -> None:
    mount = (Mount(MountType.VOLUME, "/data", "data"),)
    hooked = make_service(
        "web",
        volumes=mount,
        post_start=(Hook(("sh", "-c", "echo hello | tee -a /data/log; printf word")),),
        pre_stop=(Hook(("sh", "-c", "echo bye | tee -a /data/log")),),
    )
    project = make_project(
        hooked,
        make_service("reader", volumes=mount),
        name=name,
        volumes={"data": Volume("data", f"{name}_data")},
    )
    told: list[Report] = []
    await converge.up(engine, project, UpOptions(), listener=told.append)
    await life.stop(engine, name, project, services=["web"], timeout=0, listener=told.append)
    assert await run(engine, f"{name}-reader-1", "cat", "/data/log") == "hello\nbye\n"
    assert [report for report in told if isinstance(report, Hooked)] == [
        Hooked("web.1", "hello"), Hooked("web.1", "word"), Hooked(f"{name}-web-1", "bye"),
    ]  # fmt: skip


@pytest.mark.peer
async def test_containers_share_namespaces_of_a_service(engine: Engine, name: str) -> None:
    sidecar = make_service(
        "sidecar",
        network_mode="service:web",
        depends_on={"web": Dependency("web", restart=True)},
    )
    project = make_project(make_service("web", hostname="shared"), sidecar, name=name)
    await converge.up(engine, project, UpOptions())
    both = [await run(engine, f"{name}-{s}-1", "readlink", "/proc/self/ns/net")
            for s in ("web", "sidecar")]  # fmt: skip
    assert both[0] == both[1]


async def test_orphans_go_when_asked(engine: Engine, name: str) -> None:
    await converge.up(engine, make_project(make_service("a"), make_service("b"), name=name), WAIT)
    smaller = make_project(make_service("a"), name=name)
    outcome = await converge.up(engine, smaller, UpOptions())
    assert outcome.plan.notes
    assert len(await states(engine, name)) == 2
    await converge.up(engine, smaller, UpOptions(PlanOptions(remove_orphans=True, timeout=0)))
    assert await states(engine, name) == {f"{name}-a-1": "running"}


async def test_stop_goes_against_and_start_along_the_dependencies(
    engine: Engine, name: str
) -> None:
    project = make_project(
        make_service("db"),
        make_service("api", depends_on=needs(db=Condition.STARTED)),
        make_service("web", depends_on=needs(api=Condition.STARTED)),
        name=name,
    )
    await converge.up(engine, project, UpOptions())
    reports: list[Report] = []
    await life.stop(engine, name, timeout=0, listener=reports.append)
    await life.start(engine, name, listener=reports.append)
    steps = [report.step.key for report in reports if isinstance(report, Finished)]
    assert steps == [
        f"{verb} {name}-{service}-1"
        for verb, services in (("stop", ("web", "api", "db")), ("start", ("db", "api", "web")))
        for service in services
    ]
    assert set((await states(engine, name)).values()) == {"running"}


async def test_a_restart_takes_those_along_that_ask_for_it(engine: Engine, name: str) -> None:
    project = make_project(
        make_service("db"),
        make_service("web", depends_on={"db": Dependency("db", restart=True)}),
        make_service("loose", depends_on=needs(db=Condition.STARTED)),
        name=name,
    )
    await converge.up(engine, project, UpOptions())
    outcome = await life.restart(engine, name, services=["db"], timeout=0)
    assert text(outcome.plan) == (
        "restart web.1   restarts with what it depends on   after: db.1\n"
        "restart db.1    asked for                          after: web.1 stopped\n"
    )
    assert set((await states(engine, name)).values()) == {"running"}


@pytest.mark.peer
async def test_limits_networks_and_policies_change_as_it_runs(engine: Engine, name: str) -> None:
    web = make_service(
        "web", mem_limit=64 << 20, pids_limit=50, mem_reservation=32 << 20,
        networks={"front": Attachment()},
    )  # fmt: skip
    project = make_project(web, name=name)
    await converge.up(engine, project, WAIT)
    before = await inspect(engine, f"{name}-web-1")
    wanted = replace(
        web, mem_limit=96 << 20, pids_limit=0, mem_reservation=0, cpus=0.5, restart="always",
        networks={"back": Attachment(aliases=("www",))},
    )  # fmt: skip
    after = make_project(wanted, name=name)
    plan = await converge.plan_up(engine, after, PlanOptions())
    assert [str(change) for change in plan.changes if "web" in change.subject] == ["update web.1"]
    await converge.up(engine, after, WAIT)
    assert (await converge.plan_up(engine, after, PlanOptions())).is_empty
    now = await inspect(engine, f"{name}-web-1")
    assert (now.id, now.started_at) == (before.id, before.started_at)
    host: Any = now.document["HostConfig"]
    settings: Any = now.document["NetworkSettings"]
    assert list(settings["Networks"]) == [f"{name}_back"]
    assert {"www", "web"} <= set(settings["Networks"][f"{name}_back"]["Aliases"])
    assert (host["Memory"], host["NanoCpus"]) == (96 << 20, 500_000_000)
    assert not host["PidsLimit"]
    assert host["RestartPolicy"]["Name"] == "always"
    assert await converge.as_last_applied(engine, name) == 2
    # What can't be taken off as it runs: on Docker a limit of memory; nothing of these on ours.
    bare = make_project(replace(wanted, mem_limit=None), name=name)
    plan = await converge.plan_up(engine, bare, PlanOptions())
    verb = "update" if engine.is_ours else "recreate"
    why = "" if engine.is_ours else ": that can't be taken off as it runs"
    assert text(plan) == f"{verb} web.1   mem_limit {wanted.mem_limit} -> unset{why}\n"
    await converge.up(engine, bare, WAIT)
    assert (await converge.plan_up(engine, bare, PlanOptions())).is_empty
    # By hand: told, and put right.
    await engine.containers.update(f"{name}-web-1", {"NanoCpus": 700_000_000})
    plan = await converge.plan_up(engine, bare, PlanOptions())
    cause = "changed by hand: nano_cpus" if engine.is_ours else "cpus 0.7 -> 0.5"
    assert [(str(c), c.cause) for c in plan.changes] == [("update web.1", cause)]
    await converge.up(engine, bare, WAIT)
    assert (await converge.plan_up(engine, bare, PlanOptions())).is_empty


async def test_killed_paused_and_removed_containers_come_back(engine: Engine, name: str) -> None:
    project = make_project(make_service("a"), make_service("b"), make_service("c"), name=name)
    await converge.up(engine, project, UpOptions())
    await life.kill(engine, name, services=["a"])
    await life.pause(engine, name, services=["b"])
    await life.remove(engine, name, services=["c"], stop_first=True, timeout=0)
    assert await states(engine, name) == {f"{name}-a-1": "exited", f"{name}-b-1": "paused"}
    outcome = await converge.up(engine, project, UpOptions())
    assert (
        text(outcome.plan)
        == """\
create c.1    missing
start a.1     exited with code 137
unpause b.1   is paused
"""
    )
    assert set((await states(engine, name)).values()) == {"running"}


@pytest.mark.peer
async def test_what_ends_before_it_is_killed_is_as_good_as_killed(
    engine: Engine, name: str
) -> None:
    project = make_project(make_service("a", stop_signal="SIGKILL"), name=name)
    await converge.up(engine, project, UpOptions())
    plan = make_kill_plan(await observe(engine, name), name)
    hangup = make_kill_plan(await observe(engine, name), name, signal="SIGHUP")
    await life.stop(engine, name, project)
    async with watch_containers(engine, name) as watch:
        performer = Performer(engine, watch, silent)
        await apply_plan(plan, performer, silent)
        with pytest.raises(StepsFailed, match="not running"):
            await apply_plan(hangup, performer, silent)


async def test_two_changes_at_once_are_refused(engine: Engine, name: str) -> None:
    project = make_project(make_service("web"), name=name)
    with change.changing(engine, name, "down"), pytest.raises(Busy, match="down, process"):
        await converge.up(engine, project, UpOptions())


async def test_a_port_of_another_project_is_refused_before_anything_is_done(
    engine: Engine, name: str
) -> None:
    holder = make_project(make_service("web", ports=(Port(80, "18080"),)), name=f"{name}x")
    await converge.up(engine, holder, UpOptions())
    try:
        project = make_project(
            make_service("front", ports=(Port(80, "18080"),)), make_service("db"), name=name
        )
        with pytest.raises(ProjectError, match=f"container {name}x-web-1 has it"):
            await converge.up(engine, project, UpOptions())
        assert await states(engine, name) == {}
    finally:
        await life.down(engine, f"{name}x", None, DownOptions(timeout=0))


async def test_an_image_that_others_use_stays(engine: Engine, name: str) -> None:
    project = make_project(make_service("web"), name=name)
    other = make_project(make_service("web"), name=f"{name}x")
    told: list[Report] = []
    try:
        await converge.up(engine, other, UpOptions())
        await converge.up(engine, project, UpOptions())
        options = DownOptions(images="all", timeout=0)
        await life.down(engine, name, project, options, listener=told.append)
        (note,) = [report for report in told if isinstance(report, Note)]
        assert note.text.startswith(f"image {IMAGE} stays: conflict: unable to remove")
        assert await states(engine, name) == {}
        assert await engine.images.find(IMAGE) is not None
    finally:
        await life.down(engine, f"{name}x", None, DownOptions(timeout=0))


async def test_an_interrupted_up_takes_back_what_it_had_not_started(
    engine: Engine, name: str
) -> None:
    project = make_project(
        make_service("web", depends_on=needs(db=Condition.HEALTHY)),
        make_service("db", healthcheck=check("false", start_period=100)),
        name=name,
    )
    waiting = asyncio.Event()

    def listen(report: Report) -> None:
        if isinstance(report, Started) and report.step.key == "await db healthy":
            waiting.set()

    going = asyncio.create_task(converge.up(engine, project, UpOptions(), listen))
    await waiting.wait()
    assert await states(engine, name) == {f"{name}-db-1": "running", f"{name}-web-1": "created"}
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    assert await states(engine, name) == {f"{name}-db-1": "running"}


async def test_a_plan_that_is_not_confirmed_changes_nothing(engine: Engine, name: str) -> None:
    async def refuse(plan: object) -> bool:
        return False

    outcome = await converge.up(
        engine, make_project(make_service("web"), name=name), UpOptions(confirm=refuse)
    )
    assert not outcome.confirmed
    assert await states(engine, name) == {}


async def test_an_image_that_cannot_be_got_stops_everything_before_it_begins(
    engine: Engine, name: str
) -> None:
    project = make_project(make_service("web"), make_service("db", image="nosuch:1"), name=name)
    with pytest.raises(StepsFailed, match="cannot pull nosuch:1: "):
        await converge.up(engine, project, UpOptions())
    assert await states(engine, name) == {}
