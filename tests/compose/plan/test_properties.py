"""Whatever is declared and whatever is there: an applied plan gives what was wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from compose.model.project import Project
from compose.plan.make import make_plan
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from tests.compose.projects import nothing
from tests.compose.simulated import Simulated
from tests.compose.strategies import disturbed, projects

EVERYTHING = PlanOptions(remove_orphans=True)
FAST = settings(max_examples=60, deadline=None)


@FAST
@given(projects(), projects(), disturbed(), st.booleans())
def test_an_applied_plan_gives_the_wanted_state_and_leaves_nothing_to_plan(
    old: Project, new: Project, disturb: Callable[[Observed], Observed], is_ours: bool
) -> None:
    empty = replace(nothing(), is_ours=is_ours)
    before = disturb(Simulated(empty).apply(make_plan(old, empty, EVERYTHING)))
    simulated = Simulated(before)
    plan = make_plan(new, before, EVERYTHING)
    after = simulated.apply(plan)
    counts = Counter(container.service for container in after.containers)
    assert counts == Counter({s.name: s.replicas for s in new.services.values()})
    assert all(container.state in ("running", "exited") for container in after.containers)
    assert make_plan(new, after, EVERYTHING) == Plan("demo")
    # Each is what is declared: its record, its networks, its name.
    for container in after.containers:
        service = new.services[container.service]
        wanted = {new.networks[key].name for key in service.networks}
        assert set(container.networks) == wanted
        assert container.name == f"demo-{container.service}-{container.number}"
        assert not container.edited
        if container.limits is not None:
            for name, limit in (("Memory", service.mem_limit), ("PidsLimit", service.pids_limit)):
                actual = container.limits.get(name, 0)
                assert isinstance(actual, int)
                assert max(actual, 0) == limit


@FAST
@given(projects(), projects())
def test_a_failure_before_the_checkpoint_can_be_taken_back_wholly(
    old: Project, new: Project
) -> None:
    before = Simulated(nothing()).apply(make_plan(old, nothing(), EVERYTHING))
    plan = make_plan(new, before, EVERYTHING)
    simulated = Simulated(before)
    done = []
    for step in plan.steps:
        if step.key == "checkpoint":
            break
        simulated.perform(step.action)
        done.append(step)
    for step in reversed(done):
        if step.undo is not None:
            simulated.perform(step.undo)
    assert simulated.observed.containers == before.containers
    assert simulated.observed.networks == before.networks
    assert simulated.observed.volumes == before.volumes
