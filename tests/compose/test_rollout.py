"""`update_config` and `rollback_config` on real engines: who is old, who is new, who runs.

The tests say what Swarm does: each fails there where it fails here (`test_swarm.py` asks it).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from compose import converge, history, life
from compose.apply.errors import StepsFailed
from compose.apply.listener import Note, Replacing, Report
from compose.client.engine import Engine
from compose.converge import UpOptions
from compose.model.deploy import Deploy, UpdateConfig
from compose.model.mount import Mount, MountType
from compose.model.project import Project
from compose.model.resources import Volume
from compose.model.service import Condition, Hook
from compose.model.units import Duration
from compose.plan.options import DownOptions, PlanOptions
from tests.compose.projects import check, make_project, make_service, needs

pytestmark = pytest.mark.peer

COUNT = itertools.count(1)
SECOND = 1_000_000_000
# Old ones make as many folders as they are; a new one takes the next number, and only those that
# are not in $BAD come up.
NEW = "n=1; while ! mkdir /shared/$n 2>/dev/null; do n=$((n+1)); done; "
FAILS = 'case " $BAD " in *" $n "*) echo bad luck; exit 3;; esac; touch /tmp/ok; exec sleep 2000'
OLD = "touch /tmp/ok; exec sleep 1000"
# With a check: without one, what is to fail needs longer than this to do so on a busy machine.
ONE = UpdateConfig(monitor=Duration(SECOND // 5))
LONG = replace(ONE, monitor=Duration(20 * SECOND))


@pytest.fixture
async def name(engine: Engine) -> AsyncIterator[str]:
    chosen = f"r{next(COUNT)}"
    yield chosen
    await life.down(engine, chosen, None, DownOptions(volumes=True, timeout=0))
    left = [c.name for c in await engine.containers.list() if chosen in c.name]
    assert left == []


def declared(
    name: str,
    config: UpdateConfig | None,
    script: str,
    *,
    bad: str = "",
    back: UpdateConfig | None = None,
    checked: bool = True,
    replicas: int = 3,
) -> Project:
    web = make_service(
        "web",
        command=("sh", "-c", script),
        environment={"BAD": bad},
        healthcheck=check("test", "-e", "/tmp/ok", start_period=1) if checked else None,
        volumes=(Mount(MountType.VOLUME, "/shared", "shared"),),
        deploy=Deploy(replicas=replicas, update_config=config, rollback_config=back),
    )
    return make_project(web, name=name, volumes={"shared": Volume("shared", f"{name}_shared")})


def beside(project: Project, seconds: str) -> Project:
    """With a service that has nothing to do with it, and one that needs it."""
    config = Deploy(update_config=ONE)
    calm = make_service("calm", command=("sleep", seconds), deploy=config)
    needing = make_service(
        "needs", command=("sleep", seconds), deploy=config, depends_on=needs(web=Condition.STARTED)
    )
    return replace(project, services={**project.services, "calm": calm, "needs": needing})


class Stack:
    """`listen` keeps what was told."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine, self.name = engine, name
        self.old: dict[str, str] = {}
        self.reports: list[Report] = []

    async def begin(self, project: Project) -> None:
        await converge.up(self.engine, project, UpOptions(wait=True, wait_timeout=60))
        self.old = await self.ids()

    async def update(self, project: Project) -> str:
        """What it failed with; "" if it didn't."""
        self.reports.clear()
        try:
            await converge.up(self.engine, project, UpOptions(), self.reports.append)
        except StepsFailed as error:
            return str(error)
        return ""

    async def ids(self) -> dict[str, str]:
        filters = {"label": [f"com.docker.compose.project={self.name}"]}
        rows = await self.engine.containers.list(filters=filters)
        return {row.name.removeprefix(f"{self.name}-"): row.id for row in rows}

    async def standing(self) -> dict[str, str]:
        """web-1 -> `new running`"""
        filters = {"label": [f"com.docker.compose.project={self.name}"]}
        rows = await self.engine.containers.list(filters=filters)
        known = set(self.old.values())
        return {
            row.name.removeprefix(f"{self.name}-"): f"{'old' if row.id in known else 'new'} "
            f"{row.state}"
            for row in rows
        }

    def turns(self) -> list[tuple[str, str]]:
        return [(each.slot, each.state) for each in self.reports if isinstance(each, Replacing)]


@pytest.fixture
def stack(engine: Engine, name: str) -> Stack:
    return Stack(engine, name)


async def test_one_has_its_turn_when_the_one_before_runs(stack: Stack) -> None:
    await stack.begin(declared(stack.name, ONE, OLD))
    assert await stack.update(declared(stack.name, ONE, NEW + FAILS)) == ""
    assert stack.turns() == [
        (f"web.{number}", state) for number in (1, 2, 3) for state in ("working", "done")
    ]
    assert await stack.standing() == dict.fromkeys(("web-1", "web-2", "web-3"), "new running")


@pytest.mark.parametrize(("parallelism", "together"), [(0, 3), (2, 2)])
async def test_so_many_have_their_turn_at_once(
    stack: Stack, parallelism: int, together: int
) -> None:
    config = replace(ONE, parallelism=parallelism)
    await stack.begin(declared(stack.name, config, OLD))
    assert await stack.update(declared(stack.name, config, NEW + FAILS)) == ""
    assert [state for _, state in stack.turns()][:together] == ["working"] * together
    assert [state for _, state in stack.turns()].count("done") == 3


async def test_paused_it_stays_as_it_is_and_the_next_up_goes_on(stack: Stack) -> None:
    await stack.begin(declared(stack.name, ONE, OLD))
    told = await stack.update(declared(stack.name, ONE, NEW + FAILS, bad="2"))
    assert "cannot update web: web.2: container" in told
    assert "exited with code 3" in told
    assert "bad luck" in told
    assert "the update is paused (new: web.1, web.2; as before: web.3)" in told
    standing = await stack.standing()
    old = standing.pop(next(key for key in standing if key.startswith("web-2_")))
    assert old == "old exited"  # for a rollback
    assert standing == {"web-1": "new running", "web-2": "new exited", "web-3": "old running"}
    first = (await stack.ids())["web-1"]
    last = await history.latest(stack.engine, stack.name)
    assert last.paused.startswith("web.2: ")

    assert await stack.update(declared(stack.name, ONE, NEW + FAILS, bad="2")) == ""
    assert [slot for slot, _ in stack.turns()] == ["web.3"] * 2
    assert await stack.standing() == dict.fromkeys(("web-1", "web-2", "web-3"), "new running")
    assert (await stack.ids())["web-1"] == first


async def test_atomic_leaves_a_paused_update(stack: Stack) -> None:
    await stack.begin(declared(stack.name, ONE, OLD))
    failing = declared(stack.name, ONE, NEW + FAILS, bad="2")
    with pytest.raises(StepsFailed) as caught:
        await converge.up(stack.engine, failing, UpOptions(atomic=True))
    assert caught.value.hint == "returned to revision 1"
    states = await stack.standing()
    assert {name: state.split()[1] for name, state in states.items()} == dict.fromkeys(
        ("web-1", "web-2", "web-3"), "running"
    )
    last = await history.latest(stack.engine, stack.name)
    assert (last.number, last.command, last.paused) == (3, "rollback 1", "")
    assert await converge.as_last_applied(stack.engine, stack.name) == 3


async def test_of_a_paused_update_one_goes_back_to_the_old_containers(stack: Stack) -> None:
    """Beside it a service that is updated all the same, and one that needs it and so isn't."""
    before = beside(declared(stack.name, ONE, OLD), "1000")
    await stack.begin(before)
    failing = beside(declared(stack.name, ONE, NEW + FAILS, bad="1"), "2000")
    assert "as before: web.2, web.3" in await stack.update(failing)
    standing = await stack.standing()
    assert standing.pop(next(key for key in standing if key.startswith("web-1_"))) == "old exited"
    others = {"web-2": "old running", "web-3": "old running", "needs-1": "old running"}
    assert standing == {"web-1": "new exited", "calm-1": "new running", **others}

    # What keeps it as it is brings nothing forth, and leaves what one may go back to.
    last = await history.latest(stack.engine, stack.name)
    healing, _, _ = await converge.plan_healing(stack.engine, last, stack.name)
    assert [str(change) for change in healing.changes] == ["start web.1"]

    back = (await history.previous(stack.engine, stack.name)).number
    await converge.rollback(stack.engine, stack.name, back)
    assert await stack.standing() == {
        "web-1": "old running", "calm-1": "new running", **others,
    }  # fmt: skip
    assert (await converge.plan_up(stack.engine, before, PlanOptions())).is_empty


async def test_start_first_a_failed_one_leaves_the_old_one_serving(stack: Stack) -> None:
    config = replace(ONE, order="start-first")
    await stack.begin(declared(stack.name, config, OLD))
    assert await stack.update(declared(stack.name, config, NEW + FAILS, bad="2"))
    assert await stack.standing() == {
        "web-1": "new running", "web-2": "old running", "web-3": "old running",
    }  # fmt: skip


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
async def test_rolled_back_the_very_containers_are_back(stack: Stack, order: str) -> None:
    config = replace(ONE, failure_action="rollback", order=order)
    back = replace(ONE, parallelism=0, order=order)
    await stack.begin(declared(stack.name, config, OLD, back=back))
    told = await stack.update(declared(stack.name, config, NEW + FAILS, bad="3", back=back))
    assert "the update was taken back: all run as before" in told
    assert await stack.ids() == stack.old
    assert set((await stack.standing()).values()) == {"old running"}


async def test_continue_leaves_out_who_fails(stack: Stack) -> None:
    config = replace(ONE, failure_action="continue")
    await stack.begin(declared(stack.name, config, OLD))
    assert await stack.update(declared(stack.name, config, NEW + FAILS, bad="1 2")) == ""
    assert await stack.standing() == {
        "web-1": "new exited", "web-2": "new exited", "web-3": "new running",
    }  # fmt: skip
    assert len([each for each in stack.reports if isinstance(each, Note)]) == 2


@pytest.mark.parametrize(("bad", "new"), [("1", 4), ("1 2", 2)])
async def test_so_many_may_fail(stack: Stack, bad: str, new: int) -> None:
    """A share, of those that are to be replaced; just that much is allowed."""
    config = replace(ONE, max_failure_ratio=0.25)
    await stack.begin(declared(stack.name, config, OLD, replicas=4))
    told = await stack.update(declared(stack.name, config, NEW + FAILS, bad=bad, replicas=4))
    assert bool(told) == (new < 4)
    standing = (await stack.standing()).values()
    assert sum(each.startswith("new") for each in standing) == new


async def test_without_a_check_it_is_watched_while_others_have_their_turn(stack: Stack) -> None:
    """The first dies within `monitor`, when the second is replaced already."""
    config = replace(LONG, failure_action="rollback")
    await stack.begin(declared(stack.name, config, OLD, checked=False))
    dies = NEW + "test $n != 1 || { while ! test -e /shared/2; do :; done; exit 3; }; sleep 2000"
    told = await stack.update(declared(stack.name, config, dies, checked=False, back=ONE))
    assert "web.1: container" in told
    assert ("web.2", "working") in stack.turns()
    assert await stack.ids() == stack.old
    assert set((await stack.standing()).values()) == {"old running"}


async def test_what_ends_well_has_ended_too_early_all_the_same(stack: Stack) -> None:
    await stack.begin(declared(stack.name, LONG, OLD, checked=False))
    assert "exited with code 0" in await stack.update(
        declared(stack.name, LONG, "true", checked=False)
    )


@pytest.mark.parametrize("action", ["pause", "rollback"])
async def test_for_what_cannot_be_started_the_old_one_goes_on(stack: Stack, action: str) -> None:
    config = replace(ONE, failure_action=action)
    await stack.begin(declared(stack.name, config, OLD))
    project = declared(stack.name, config, OLD, back=ONE)
    broken = replace(project.services["web"], command=("/no/such/program",))
    told = await stack.update(replace(project, services={"web": broken}))
    assert "cannot update web: web.1: " in told
    assert "no such file" in told
    assert "all run as before" in told
    assert await stack.ids() == stack.old
    assert set((await stack.standing()).values()) == {"old running"}
    assert not (await history.latest(stack.engine, stack.name)).paused


async def test_paused_where_one_cannot_be_started_that_one_is_as_before(stack: Stack) -> None:
    await stack.begin(declared(stack.name, ONE, OLD))
    project = declared(stack.name, ONE, f"{NEW}echo $n > /tmp/ok; exec sleep 2000")
    refuses = Hook(("sh", "-c", "until read n < /tmp/ok; do sleep 0.1; done; test $n != 2"))
    web = replace(project.services["web"], post_start=(refuses,))
    told = await stack.update(replace(project, services={"web": web}))
    assert "post_start hook" in told
    assert "the update is paused (new: web.1; as before: web.2, web.3)" in told
    assert await stack.standing() == {
        "web-1": "new running", "web-2": "old running", "web-3": "old running",
    }  # fmt: skip
    assert (await stack.ids())["web-2"] == stack.old["web-2"]


async def test_a_rollback_that_fails_is_paused(stack: Stack) -> None:
    """The first old one doesn't come up again."""
    config = replace(ONE, failure_action="rollback")
    once = "test -e /once && exit 5; touch /once /tmp/ok; exec sleep 1000"
    await stack.begin(declared(stack.name, config, once))
    told = await stack.update(declared(stack.name, config, NEW + FAILS, bad="2", back=ONE))
    assert "on the way back, web.2: container" in told
    assert "the way back is paused (new: web.1; as before: web.2, web.3)" in told
    standing = await stack.standing()
    assert standing["web-1"] == "new running"
    assert standing["web-2"] == "old exited"
    assert standing["web-3"] == "old running"


async def test_interrupted_it_puts_back_whose_turn_it_was(stack: Stack) -> None:
    await stack.begin(declared(stack.name, ONE, OLD))
    hangs = NEW + "test $n != 2 && touch /tmp/ok; exec sleep 2000"
    begun = asyncio.Event()

    def listen(report: Report) -> None:
        if isinstance(report, Replacing) and (report.slot, report.state) == ("web.2", "working"):
            begun.set()

    going = asyncio.create_task(
        converge.up(stack.engine, declared(stack.name, ONE, hangs), UpOptions(), listen)
    )
    await begun.wait()
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    assert await stack.standing() == {
        "web-1": "new running", "web-2": "old running", "web-3": "old running",
    }  # fmt: skip
    assert (await stack.ids())["web-2"] == stack.old["web-2"]
