"""pure: containers start when what they need is as `depends_on` says; followers stop first."""

from __future__ import annotations

from collections.abc import Iterable

from compose.model.service import Condition, Dependency
from compose.plan.actions import (
    AwaitCondition,
    ContainerRef,
    Existing,
    StartContainer,
    StopContainer,
)
from compose.plan.init import make_init_containers
from compose.plan.observed import ObservedContainer
from compose.plan.services import Keep
from compose.plan.steps.draft import CHECKPOINT, Draft, stop_key

WORDS = {
    Condition.STARTED: "started",
    Condition.HEALTHY: "healthy",
    Condition.COMPLETED: "completed",
}


def start(
    draft: Draft,
    name: str,
    ref: ContainerRef,
    subject: str,
    change: int,
    *,
    after: Iterable[str],
) -> None:
    service = draft.project.services[name]
    is_first = not draft.starts[name] and not draft.decided.stays_up(name)
    inits = make_init_containers(
        draft.project, service, draft.observed, ref, subject, is_first=is_first
    )
    # What is done once for a service is done when its others start.
    ready = draft.starts[name][:1] if service.pre_start else []
    key = draft.builder.step(
        f"start {subject}",
        StartContainer(ref, service.post_start, inits),
        change,
        after=[CHECKPOINT, *after, *draft.released(service), *ready, *conditions(draft, name)],
        written=draft.written(name),
    )
    draft.starts[name].append(key)


def stop(
    draft: Draft,
    change: int,
    container: ObservedContainer,
    *,
    undo: StartContainer | None = None,
    until: Iterable[str] = (),
    after: Iterable[str] = (),
) -> str:
    service = draft.project.services.get(container.service)
    return draft.builder.step(
        stop_key(container),
        StopContainer(
            Existing(container.id, container.name),
            draft.options.timeout,
            service.pre_stop if service else (),
        ),
        change,
        after=[CHECKPOINT, *stops_of_followers(draft, container.service), *after],
        undo=undo,
        until=until,
    )


def stops_of_followers(draft: Draft, service: str) -> list[str]:
    return [
        stop_key(other)
        for follower in draft.decided.followers.get(service, ())
        for other in draft.decided.own.get(follower, ())
    ]


def conditions(draft: Draft, name: str) -> list[str]:
    """Keys that a start of this service waits for."""
    keys: list[str] = []
    for needed, dependency in draft.project.services[name].depends_on.items():
        if needed not in draft.decided.services:
            continue
        if dependency.condition is Condition.STARTED and dependency.required:
            keys += draft.starts.get(needed, ())
        elif key := _await(draft, needed, dependency):
            keys.append(key)
    return keys


def _await(draft: Draft, needed: str, dependency: Dependency) -> str:
    """The key of the step that waits for a condition, "" if it is met already."""
    refs = tuple(draft.decided.refs[needed])
    starts = draft.starts.get(needed, [])
    if not refs or draft.options.no_start:
        return ""
    key = f"await {needed} {WORDS[dependency.condition]}"
    if not dependency.required:
        key += " (optional)"
    if key in draft.builder.steps:
        return key
    if not starts and _is_met(draft, needed, dependency.condition):
        return ""
    return draft.builder.step(
        key,
        AwaitCondition(needed, dependency.condition, refs, dependency.required),
        after=[CHECKPOINT, *starts],
        written=draft.written(needed),
    )


def _is_met(draft: Draft, needed: str, condition: Condition) -> bool:
    decisions = draft.decided.services[needed].decisions
    kept = [each.container for each in decisions if isinstance(each, Keep)]
    if condition is Condition.STARTED:
        return True
    if condition is Condition.HEALTHY:
        return all(c.state == "running" and c.health == "healthy" for c in kept)
    return any(c.state == "exited" and c.exit_code == 0 for c in kept)
