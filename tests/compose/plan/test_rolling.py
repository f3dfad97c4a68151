"""Replicas are replaced in the batches that `deploy.update_config` asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from compose.model.deploy import Deploy, UpdateConfig
from compose.model.port import Port
from compose.model.project import Project
from compose.model.service import Service
from compose.model.units import Duration
from compose.plan.actions import AwaitUpdate
from compose.plan.make import make_plan
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.plan.text import text
from tests.compose.projects import make_project, make_service, nothing
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


def keys(plan: Plan) -> list[str]:
    return [step.key for step in plan.steps if not step.key.startswith(("create", "checkpoint"))]


def waits(plan: Plan) -> list[AwaitUpdate]:
    return [step.action for step in plan.steps if isinstance(step.action, AwaitUpdate)]


def test_one_at_a_time_is_what_nothing_said_means() -> None:
    plan = update(UpdateConfig())
    assert (
        text(plan)
        == """\
recreate web.1   command changed
recreate web.2   command changed   after: web.1 updated
recreate web.3   command changed   after: web.2 updated
"""
    )
    assert keys(plan)[:6] == [
        "stop demo-web-1", "set aside web.1", "rename web.1", "start web.1", "await web.1 updated",
        "stop demo-web-2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parallelism", "batches"), [(0, [5]), (1, [1] * 5), (2, [2, 2, 1]), (9, [5])]
)
def test_so_many_at_a_time(parallelism: int, batches: list[int]) -> None:
    plan = update(UpdateConfig(parallelism=parallelism), replicas=5)
    assert [len(action.containers) for action in waits(plan)] == batches


def test_delay_lies_between_batches_and_monitor_is_five_seconds_as_on_swarm() -> None:
    plan = update(UpdateConfig(parallelism=2, delay=Duration(3 * SECOND)))
    assert [(action.delay, action.monitor) for action in waits(plan)] == [(3.0, 5.0), (0.0, 5.0)]
    plan = update(UpdateConfig(monitor=Duration(SECOND // 2)))
    assert {action.monitor for action in waits(plan)} == {0.5}


def test_without_update_config_all_are_replaced_together() -> None:
    assert waits(update(None)) == []


def test_old_containers_are_kept_for_as_long_as_they_may_have_to_come_back() -> None:
    """pause: what is up stays; rollback: until the last batch is up."""
    for action, until in (("pause", "web.1"), ("", "web.1"), ("rollback", "web.3")):
        steps = {step.key: step for step in update(UpdateConfig(failure_action=action)).steps}
        for key in ("stop demo-web-1", "set aside web.1", "rename web.1", "start web.1"):
            assert steps[key].undo is not None
            assert steps[key].until == (f"await {until} updated",)
        assert steps["remove demo-web-1"].after == (f"await {until} updated",)


def test_continue_goes_on_without_what_does_not_come_up() -> None:
    assert {wait.required for wait in waits(update(UpdateConfig(failure_action="continue")))} == {
        False
    }


def test_replicas_share_a_range_of_ports_while_they_are_updated() -> None:
    plan = update(UpdateConfig(), ports=(Port(80, "8000-8002"),))
    assert len(waits(plan)) == 3


def test_new_services_and_what_stays_wait_for_nothing() -> None:
    project = make_project(web(UpdateConfig()))
    plan = make_plan(project, nothing(), PlanOptions())
    assert waits(plan) == []
    observed: Observed = Simulated(nothing()).apply(plan)
    assert make_plan(project, observed, PlanOptions()).is_empty
    updated = after(project)
    done = Simulated(observed).apply(make_plan(updated, observed, PlanOptions()))
    assert make_plan(updated, done, PlanOptions()).is_empty


# --- the new one first


def first(action: str = "", **fields: object) -> UpdateConfig:
    return UpdateConfig(order="start-first", failure_action=action, **fields)  # type: ignore[arg-type]


def handed_over(config: UpdateConfig) -> Plan:
    before = make_project(web(config, 2, ports=(Port(80, "8000"),)))
    empty = replace(nothing(), is_ours=True)
    observed = Simulated(empty).apply(make_plan(before, empty, PlanOptions()))
    return make_plan(after(before), observed, PlanOptions())


def test_start_first_stops_the_old_one_once_the_new_one_is_up() -> None:
    order = keys(handed_over(first()))
    for number in (1, 2):
        own = [key for key in order if str(number) in key.replace("web-", "web.")]
        assert own == [
            f"start web.{number}", f"await web.{number} updated", f"stop demo-web-{number}",
            f"set aside web.{number}", f"rename web.{number}", f"remove demo-web-{number}",
        ]  # fmt: skip
    assert order.index("await web.1 updated") < order.index("start web.2")


def test_start_first_can_take_back_what_earlier_batches_did() -> None:
    plan = handed_over(first("rollback"))
    steps = {step.key: step for step in plan.steps}
    for key in ("start web.1", "stop demo-web-1", "set aside web.1", "rename web.1"):
        assert steps[key].undo is not None
        assert steps[key].until == ("await web.2 updated",)
    assert steps["await web.1 updated"].undo is not None  # the second old one, before the first
    assert steps["remove demo-web-1"].after == ("await web.2 updated", "rename web.1")


def test_where_two_cant_have_the_port_the_old_one_stops_first_and_that_is_told() -> None:
    before = make_project(web(first(), 1, ports=(Port(80, "8000"),)))
    observed = Simulated(nothing()).apply(make_plan(before, nothing(), PlanOptions()))
    plan = make_plan(after(before), observed, PlanOptions())
    assert keys(plan)[0] == "stop demo-web-1"
    assert "only pycompose's own engine lets two containers have one port" in str(plan.notes[0])


def test_so_many_failures_are_tolerated_as_the_ratio_says() -> None:
    plan = update(UpdateConfig(max_failure_ratio=0.5, parallelism=2), replicas=5)
    assert {wait.tolerated for wait in waits(plan)} == {2}


def test_rollback_config_says_how_fast_it_is_taken_back() -> None:
    deploy = Deploy(
        replicas=2,
        update_config=UpdateConfig(failure_action="rollback"),
        rollback_config=UpdateConfig(delay=Duration(2 * SECOND), monitor=Duration(SECOND)),
    )
    before = make_project(make_service("web", deploy=deploy))
    observed = Simulated(nothing()).apply(make_plan(before, nothing(), PlanOptions()))
    plan = make_plan(after(before), observed, PlanOptions())
    undo = next(step.undo for step in plan.steps if isinstance(step.action, AwaitUpdate))
    assert isinstance(undo, AwaitUpdate)
    assert (undo.delay, undo.monitor) == (2.0, 1.0)
    assert plan.notes == ()
