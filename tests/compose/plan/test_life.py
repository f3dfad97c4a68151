"""Plans for containers that are there, as text; the order comes from their labels."""

from __future__ import annotations

from dataclasses import replace

from compose.model.project import Project
from compose.model.service import Condition
from compose.plan.life import (
    make_down_plan,
    make_kill_plan,
    make_pull_plan,
    make_remove_plan,
    make_restart_plan,
    make_start_plan,
    make_stop_plan,
)
from compose.plan.make import make_plan
from compose.plan.observed import (
    ForeignContainer,
    Observed,
    ObservedContainer,
    ObservedImage,
    ObservedMount,
    ObservedVolume,
)
from compose.plan.options import DownOptions, PlanOptions
from compose.plan.text import text
from tests.compose.projects import make_project, make_service, needs, nothing
from tests.compose.simulated import Simulated


def chain() -> Project:
    return make_project(
        make_service("db"),
        make_service("api", depends_on=needs(db=Condition.STARTED)),
        make_service("web", depends_on=needs(api=Condition.STARTED), scale=2),
    )


def running(project: Project) -> Observed:
    return Simulated(nothing()).apply(make_plan(project, nothing(), PlanOptions()))


def test_what_others_depend_on_stops_last() -> None:
    assert (
        text(make_stop_plan(running(chain()), "demo"))
        == """\
stop web.1   asked for
stop web.2   asked for
stop api.1   asked for   after: web.1, web.2
stop db.1    asked for   after: api.1
"""
    )


def test_what_others_depend_on_starts_first() -> None:
    observed = running(chain())
    stopped = replace(
        observed, containers=tuple(replace(c, state="exited") for c in observed.containers)
    )
    plan = make_start_plan(stopped, "demo")
    assert [step.key for step in plan.steps] == [
        "start demo-db-1", "start demo-api-1", "start demo-web-1", "start demo-web-2",
    ]  # fmt: skip
    assert make_start_plan(observed, "demo").is_empty
    plan = make_start_plan(stopped, "demo", services=["api"])  # with what it needs, as there
    assert [change.subject for change in plan.changes] == ["db.1", "api.1"]


def test_a_restart_says_which_half_of_another_it_waits_for() -> None:
    assert (
        text(make_restart_plan(running(chain()), "demo"))
        == """\
restart web.1   asked for   after: api.1
restart web.2   asked for   after: api.1
restart api.1   asked for   after: web.1 stopped, web.2 stopped, db.1
restart db.1    asked for   after: api.1 stopped
"""
    )


def test_down_removes_containers_then_networks_and_volumes_only_when_asked() -> None:
    observed = running(chain())
    plan = make_down_plan(observed, "demo", None, DownOptions())
    assert (
        text(plan)
        == """\
remove web.1             down
remove web.2             down
remove api.1             down   after: web.1, web.2
remove db.1              down   after: api.1
remove network default   down   after: db.1, api.1, web.1, web.2
"""
    )
    after = Simulated(observed).apply(plan)
    assert after.containers == ()
    assert dict(after.networks) == {}


def test_down_of_a_service_takes_what_depends_on_it_and_no_network() -> None:
    plan = make_down_plan(running(chain()), "demo", None, DownOptions(services=frozenset({"api"})))
    assert [change.subject for change in plan.changes] == ["web.1", "web.2", "api.1"]


def test_down_leaves_a_network_that_others_use_and_says_so() -> None:
    foreign = ForeignContainer("f" * 64, "guest", "shop", networks=frozenset({"demo_default"}))
    observed = replace(running(chain()), foreign=(foreign,))
    plan = make_down_plan(observed, "demo", None, DownOptions())
    assert "network" not in text(plan)
    assert [note.what for note in plan.notes] == ["network demo_default stays: guest use it"]


def test_down_leaves_orphans_unless_asked() -> None:
    project = make_project(make_service("db"))
    observed = running(chain())
    plan = make_down_plan(observed, "demo", project, DownOptions())
    assert [change.subject for change in plan.changes] == ["db.1"]
    asked = make_down_plan(observed, "demo", project, DownOptions(remove_orphans=True))
    assert len(asked.changes) == 5


def test_down_takes_one_off_containers_along_with_orphans() -> None:
    one_off = ObservedContainer("f" * 64, "demo-web-run-1", "web", 0, "running", one_off=True)
    observed = replace(nothing(), containers=(one_off,))
    plan = make_down_plan(observed, "demo", None, DownOptions())
    assert text(plan) == ""
    assert [note.what for note in plan.notes] == ["containers of run stay: demo-web-run-1"]
    uses = replace(one_off, state="exited", mounts=(ObservedMount("volume", "demo_data", "/d"),))
    volume = ObservedVolume("demo_data", project="demo", key="data")
    observed = replace(observed, containers=(uses,), volumes={"demo_data": volume})
    plan = make_down_plan(observed, "demo", None, DownOptions(volumes=True))
    assert text(plan) == ""
    assert plan.notes[0].what == "volume demo_data stays: demo-web-run-1 use it"
    plan = make_down_plan(observed, "demo", None, DownOptions(remove_orphans=True))
    assert text(plan) == "remove container demo-web-run-1   down\n"


def test_rm_takes_only_what_is_stopped() -> None:
    observed = running(chain())
    assert make_remove_plan(observed, "demo").is_empty
    plan = make_remove_plan(observed, "demo", services=["web"], stop=True)
    assert [step.key for step in plan.steps if step.key.startswith("remove")] == [
        "remove demo-web-1", "remove demo-web-2",
    ]  # fmt: skip


def test_kill_needs_no_order() -> None:
    plan = make_kill_plan(running(chain()), "demo", signal="SIGHUP")
    assert all(step.after == () for step in plan.steps)
    assert len(plan.steps) == 4


def test_pull_takes_each_image_once_and_no_directories() -> None:
    project = make_project(
        make_service("a"), make_service("b"), make_service("c", image="rootfs:/"),
        make_service("d", image="other:1"),
    )  # fmt: skip
    assert text(make_pull_plan(project, nothing(), "missing")) == "pull image other:1   missing\n"
    assert len(make_pull_plan(project, nothing(), "always").changes) == 2


def test_pull_heeds_what_services_say_and_what_is_called_latest() -> None:
    project = make_project(
        make_service("a", image="a:1"),
        make_service("b", image="b:1", pull_policy="missing"),
        make_service("c", image="c", pull_policy="missing"),
        make_service("d", image="d:1", pull_policy="never"),
        make_service("e", image="e:1", pull_policy="build"),
    )
    there = ObservedImage("sha256:1")
    observed = replace(nothing(), images={f"{x}:1": there for x in "abde"} | {"c": there})

    def pulled(policy: str = "") -> list[str]:
        return [change.subject for change in make_pull_plan(project, observed, policy).changes]

    assert pulled() == ["image a:1", "image c"]
    assert pulled("missing") == ["image c"]
    assert len(pulled("always")) == 5
