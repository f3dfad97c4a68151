"""The plan has what `update_config` and `rollback_config` ask for, with Swarm's defaults."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from compose.model.deploy import Deploy, UpdateConfig
from compose.model.port import Port
from compose.model.project import Project
from compose.model.service import Condition, Dependency, Service
from compose.model.units import Duration
from compose.plan.actions import Pace, UpdateService
from compose.plan.make import make_plan
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.plan.text import text
from tests.compose.projects import make_project, make_service, needs, nothing
from tests.compose.simulated import Simulated

SECOND = 1_000_000_000


def web(config: UpdateConfig | None, replicas: int = 3, **fields: object) -> Service:
    return make_service("web", deploy=Deploy(replicas=replicas, update_config=config), **fields)


def update(config: UpdateConfig | None, replicas: int = 3, **fields: object) -> Plan:
    """All replicas run, and their image has another name now."""
    before = make_project(web(config, replicas, **fields))
    observed = Simulated(nothing()).apply(make_plan(before, nothing(), PlanOptions()))
    return make_plan(after(before), observed, PlanOptions())


def after(project: Project) -> Project:
    service = replace(project.services["web"], command=("sleep", "2000"))
    return replace(project, services={"web": service})


def action(plan: Plan) -> UpdateService:
    (found,) = [step.action for step in plan.steps if isinstance(step.action, UpdateService)]
    return found


def test_one_at_a_time_is_what_nothing_said_means() -> None:
    plan = update(UpdateConfig())
    assert (
        text(plan)
        == """\
recreate web.1   command sleep 1000 -> sleep 2000
recreate web.2   command sleep 1000 -> sleep 2000   after: web.1 updated
recreate web.3   command sleep 1000 -> sleep 2000   after: web.2 updated
"""
    )
    assert plan.interrupted == ("web.1", "web.2", "web.3")
    assert [turn.slot for turn in action(plan).turns] == ["web.1", "web.2", "web.3"]


def test_the_defaults_are_those_of_swarm() -> None:
    found = action(update(UpdateConfig()))
    assert found.update == found.rollback
    assert found.update == Pace(
        parallelism=1, delay=0, failure_action="pause", monitor=5, max_failure_ratio=0,
        start_first=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("parallelism", "waiting"), [(0, 0), (1, 4), (2, 3), (9, 0)], ids="p={}".format
)
def test_so_many_at_a_time(parallelism: int, waiting: int) -> None:
    plan = update(UpdateConfig(parallelism=parallelism), replicas=5)
    assert text(plan).count("after: ") == waiting


def test_all_that_is_said_is_heeded_in_both_directions() -> None:
    there = UpdateConfig(2, Duration(3 * SECOND), "rollback", Duration(SECOND // 2), 0.5)
    back = UpdateConfig(0, None, "continue", Duration(0), 0.25, "start-first")
    before = make_project(
        make_service("web", deploy=Deploy(replicas=2, update_config=there, rollback_config=back))
    )
    observed = Simulated(nothing()).apply(make_plan(before, nothing(), PlanOptions()))
    plan = make_plan(after(before), observed, PlanOptions())
    assert action(plan).update == Pace(2, 3.0, "rollback", 0.5, 0.5)
    assert action(plan).rollback == Pace(0, 0.0, "continue", 5.0, 0.25, start_first=True)
    assert plan.notes == ()


def test_without_update_config_all_are_replaced_together() -> None:
    keys = [step.key for step in update(None).steps]
    assert "update web" not in keys
    assert "start web.3" in keys


def test_until_its_turn_has_come_what_was_made_for_it_can_be_taken_back() -> None:
    steps = {step.key: step for step in update(UpdateConfig()).steps}
    for number in (1, 2, 3):
        assert steps[f"create web.{number}"].undo is not None
        assert steps[f"create web.{number}"].until == ("update web",)


def test_what_others_wait_for_or_want_is_no_affair_of_turns() -> None:
    """It restarts with what it needs, its port is another's, or it ends by itself."""
    config = UpdateConfig()
    db = make_service("db", environment={"A": "1"})
    restarting = web(config, depends_on={"db": Dependency("db", restart=True)})
    port = make_service("front", ports=(Port(80, "8000"),))
    job = make_service("last", depends_on=needs(web=Condition.COMPLETED))
    for service, others, newer in (
        (restarting, (make_service("db"),), (db,)),
        (web(config, 1, ports=(Port(80, "8000"),)), (), (port,)),
        (web(config), (job,), (job,)),
    ):
        before = make_project(service, *others)
        observed = Simulated(nothing()).apply(make_plan(before, nothing(), PlanOptions()))
        changed = replace(service, command=("sleep", "2000"), ports=())
        plan = make_plan(make_project(changed, *newer), observed, PlanOptions())
        assert "recreate web.1" in text(plan)
        assert "update web" not in [step.key for step in plan.steps]


def test_replicas_share_a_range_of_ports_while_they_are_updated() -> None:
    plan = update(UpdateConfig(), ports=(Port(80, "8000-8002"),))
    assert len(action(plan).turns) == 3


def test_new_services_and_what_stays_wait_for_nothing() -> None:
    project = make_project(web(UpdateConfig()))
    plan = make_plan(project, nothing(), PlanOptions())
    assert "update web" not in [step.key for step in plan.steps]
    observed: Observed = Simulated(nothing()).apply(plan)
    assert make_plan(project, observed, PlanOptions()).is_empty
    updated = after(project)
    done = Simulated(observed).apply(make_plan(updated, observed, PlanOptions()))
    assert make_plan(updated, done, PlanOptions()).is_empty


def test_who_needs_it_starts_after_the_update() -> None:
    front = make_service("front", depends_on=needs(web=Condition.STARTED))
    before = make_project(web(UpdateConfig(), 2))
    observed = Simulated(nothing()).apply(make_plan(before, nothing(), PlanOptions()))
    updated = after(before).services["web"]
    plan = make_plan(make_project(updated, front), observed, PlanOptions())
    assert re.search(r"create front.1   missing +after: web.1, web.2", text(plan))


# --- the new one first


def handed_over(order: str, *, is_ours: bool) -> Plan:
    config = UpdateConfig(order=order)
    before = make_project(web(config, 1, ports=(Port(80, "8000"),)))
    empty = replace(nothing(), is_ours=is_ours)
    observed = Simulated(empty).apply(make_plan(before, empty, PlanOptions()))
    return make_plan(after(before), observed, PlanOptions())


def test_start_first_interrupts_nothing() -> None:
    plan = handed_over("start-first", is_ours=True)
    assert action(plan).turns[0].can_overlap
    assert plan.interrupted == ()
    assert plan.notes == ()
    assert handed_over("stop-first", is_ours=True).interrupted == ("web.1",)


def test_where_two_cant_have_the_port_the_old_one_stops_first_and_that_is_told() -> None:
    plan = handed_over("start-first", is_ours=False)
    assert not action(plan).turns[0].can_overlap
    assert plan.interrupted == ("web.1",)
    assert "only pycompose's own engine lets two containers have one port" in str(plan.notes[0])
