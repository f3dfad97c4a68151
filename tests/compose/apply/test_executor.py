"""The walk over a plan, on a performer that only writes down what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from compose.apply.errors import StepsFailed
from compose.apply.executor import apply_plan
from compose.apply.listener import Failed, Finished, Note, Report, Skipped, Undone, silent
from compose.errors import ApplyError
from compose.model.service import Condition
from compose.plan.actions import (
    Action,
    AwaitCondition,
    Existing,
    RemoveContainer,
    RemoveVolume,
    StartContainer,
    StopContainer,
)
from compose.plan.plan import Plan, PlanBuilder, Verb


def act(name: str) -> StartContainer:
    return StartContainer(Existing(name, name))


def unact(name: str) -> StopContainer:
    return StopContainer(Existing(name, name))


def make(edges: Mapping[str, list[str]], until: Mapping[str, str] | None = None) -> Plan:
    """A step for each name. Those in `until` can be undone until that step is done."""
    builder = PlanBuilder("demo")
    for name, after in edges.items():
        change = builder.change(Verb.START, name, "test")
        limit = (until or {}).get(name)
        undo = unact(name) if limit else None
        builder.step(
            name, act(name), change, after=after, undo=undo, until=[limit] if limit else ()
        )
    return builder.finish()


class Recorder:
    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.calls: list[str] = []
        self.active = 0
        self.most = 0

    async def perform(self, action: Action) -> None:
        assert isinstance(action, (StartContainer, StopContainer))
        assert isinstance(action.container, Existing)
        name = action.container.id
        self.active += 1
        self.most = max(self.most, self.active)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.active -= 1
        if name in self.broken:
            raise ApplyError(f"{name} is broken")
        self.calls.append(name if isinstance(action, StartContainer) else f"undo {name}")


async def test_each_step_comes_after_what_it_waits_for() -> None:
    recorder = Recorder()
    await apply_plan(make({"c": ["b"], "b": ["a"], "a": []}), recorder, silent)
    assert recorder.calls == ["a", "b", "c"]


async def test_independent_steps_run_at_the_same_time_within_the_limit() -> None:
    recorder = Recorder()
    plan = make({str(number): [] for number in range(10)})
    await apply_plan(plan, recorder, silent, parallel=3)
    assert recorder.most == 3


async def test_a_failure_stops_only_what_needs_it_and_all_are_told() -> None:
    recorder = Recorder("a", "x")
    plan = make({"a": [], "b": ["a"], "c": ["b"], "x": [], "free": [], "after free": ["free"]})
    reports: list[Report] = []
    with pytest.raises(StepsFailed) as caught:
        await apply_plan(plan, recorder, reports.append)
    assert recorder.calls == ["free", "after free"]
    assert {failure.step for failure in caught.value.failures} == {"a", "x"}
    assert caught.value.skipped == ("start b", "start c")
    assert [r.because for r in reports if isinstance(r, Skipped)] == ["a", "a"]
    assert {r.step.key for r in reports if isinstance(r, Failed)} == {"a", "x"}


async def test_what_is_half_way_is_taken_back_the_last_first() -> None:
    recorder = Recorder("start")
    until = {"create": "start", "stop": "start", "network": "create"}
    plan = make(
        {"network": [], "create": ["network"], "stop": ["create"], "start": ["stop"]}, until
    )
    reports: list[Report] = []
    with pytest.raises(StepsFailed) as caught:
        await apply_plan(plan, recorder, reports.append)
    assert recorder.calls == ["network", "create", "stop", "undo stop", "undo create"]
    assert caught.value.undone == ("start stop", "start create")
    assert [r.step.key for r in reports if isinstance(r, Undone)] == ["stop", "create"]


async def test_a_failing_undo_does_not_keep_the_others_from_theirs() -> None:
    class Stubborn(Recorder):
        async def perform(self, action: Action) -> None:
            if action == unact("b"):
                raise ApplyError("it stays")
            await super().perform(action)

    recorder = Stubborn("c")
    plan = make({"a": [], "b": ["a"], "c": ["b"]}, {"a": "c", "b": "c"})
    with pytest.raises(StepsFailed, match=r"could not be taken back: .*it stays") as caught:
        await apply_plan(plan, recorder, silent)
    assert recorder.calls == ["a", "b", "undo a"]
    assert len(caught.value.undo_failures) == 1


async def test_a_cancelled_walk_sees_its_calls_to_the_end_and_takes_back() -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    class Slow(Recorder):
        async def perform(self, action: Action) -> None:
            if action == act("create"):
                begun.set()
                await may_end.wait()
            await super().perform(action)

    recorder = Slow()
    plan = make({"create": [], "start": ["create"]}, {"create": "start"})
    walk = asyncio.create_task(apply_plan(plan, recorder, silent))
    await begun.wait()
    walk.cancel()
    await asyncio.sleep(0)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await walk
    assert recorder.calls == ["create", "undo create"]


async def test_what_has_been_replaced_goes_though_the_walk_is_cut_short() -> None:
    builder = PlanBuilder("demo")
    change = builder.change(Verb.RECREATE, "web.1", "test")
    remove = RemoveContainer(Existing("old", "old"))
    builder.step("start", act("new"), change)
    builder.step("remove", remove, change, after=["start"])
    builder.step("start other", act("other"), change, after=["start"])
    performed: list[Action] = []

    class CutShort:
        async def perform(self, action: Action) -> None:
            performed.append(action)
            if action == act("new"):
                walk.cancel()
                await asyncio.sleep(0)

    walk = asyncio.create_task(apply_plan(builder.finish(), CutShort(), silent))
    with pytest.raises(asyncio.CancelledError):
        await walk
    assert performed == [act("new"), remove]


async def test_an_optional_condition_that_fails_is_a_note_and_no_more() -> None:
    builder = PlanBuilder("demo")
    wait = AwaitCondition("db", Condition.HEALTHY, (), required=False)
    change = builder.change(Verb.START, "web", "test")
    builder.step("db", act("db"), change)
    builder.step("await db healthy", wait, after=["db"])
    builder.step("web", act("web"), change, after=["await db healthy"])
    reports: list[Report] = []

    class Impatient(Recorder):
        async def perform(self, action: Action) -> None:
            if action == wait:
                raise ApplyError("unhealthy")
            await super().perform(action)

    recorder = Impatient("db")
    with pytest.raises(StepsFailed):
        await apply_plan(builder.finish(), recorder, reports.append)
    assert recorder.calls == ["web"]
    assert [note.text for note in reports if isinstance(note, Note)] == [
        'optional dependency "db" failed to start: unhealthy'
    ]


async def test_a_fault_of_our_own_is_not_taken_for_a_failed_step() -> None:
    class Faulty(Recorder):
        async def perform(self, action: Action) -> None:
            if action == RemoveVolume("x"):
                raise KeyError("a bug")
            await super().perform(action)

    builder = PlanBuilder("demo")
    builder.step("made", act("made"), undo=unact("made"), until=["never"])
    builder.step("faulty", RemoveVolume("x"), after=["made"])
    recorder = Faulty()
    with pytest.raises(ExceptionGroup) as caught:
        await apply_plan(builder.finish(), recorder, silent)
    assert caught.group_contains(KeyError)
    assert recorder.calls == ["made", "undo made"]


async def test_every_finished_step_is_reported_once() -> None:
    reports: list[Report] = []
    plan = make({"a": [], "b": ["a"]})
    await apply_plan(plan, Recorder(), reports.append)
    assert [r.step.key for r in reports if isinstance(r, Finished)] == ["a", "b"]
