"""pure: a container takes the place of another, at once or when it has its turn (`rolling.py`)."""

from __future__ import annotations

from compose.plan import names
from compose.plan.actions import (
    Existing,
    Pace,
    Planned,
    RemoveContainer,
    RenameContainer,
    StartContainer,
    StopContainer,
    Turn,
    UpdateService,
)
from compose.plan.handover import stop_first_cause
from compose.plan.init import make_init_containers
from compose.plan.observed import ObservedContainer
from compose.plan.plan import Verb
from compose.plan.rolling import rollback_pace, update_pace
from compose.plan.services import Recreate, ServiceDecision
from compose.plan.steps.creation import create
from compose.plan.steps.draft import CHECKPOINT, Draft
from compose.plan.steps.running import (
    conditions,
    start,
    stop,
    stops_of_followers,
)


def pace_of(draft: Draft, decision: ServiceDecision) -> Pace | None:
    """How its containers are replaced, if that is to be some at a time."""
    decided = draft.decided
    name, pace = decision.service.name, update_pace(decision.service)
    if pace is None or draft.options.no_start:
        return None
    old = [each.container for each in decision.decisions if isinstance(each, Recreate)]
    # What restarts with what it needs is down at once, whatever comes of it; others wait for
    # the ports; and a job has no replicas that serve meanwhile.
    is_plain = name in decided.restarting or name in decided.jobs
    is_plain = is_plain or any(map(decided.is_wanted, old))
    return pace if old and not is_plain else None


def add_update(draft: Draft, decision: ServiceDecision, pace: Pace) -> None:
    service = decision.service
    key = f"update {service.name}"
    turns: list[Turn] = []
    after = [CHECKPOINT, *conditions(draft, service.name)]
    for each in decision.decisions:
        if isinstance(each, Recreate):
            turns.append(_turn(draft, decision, each, key, is_first=not turns, pace=pace))
            after += [f"create {turns[-1].slot}", f"remove {turns[-1].name}"]
    after += draft.released(service)
    after += stops_of_followers(draft, service.name)
    action = UpdateService(service.name, tuple(turns), pace, rollback_pace(service))
    written = draft.written(service.name)
    draft.starts[service.name].append(draft.builder.step(key, action, after=after, written=written))


def _turn(
    draft: Draft,
    decision: ServiceDecision,
    recreation: Recreate,
    key: str,
    *,
    is_first: bool,
    pace: Pace,
) -> Turn:
    service, old = decision.service, recreation.container
    slot = names.slot(service.name, old.number)
    name = draft.project.container_name(service, old.number)
    interim = _interim(draft, old, name)
    old_ref, new_ref = Existing(old.id, old.name), Planned(slot)
    change = _change_of(draft, decision, recreation)
    create(draft, decision, change, old.number, created_as=interim, old=old, until=key)
    inits = make_init_containers(
        draft.project, service, draft.observed, new_ref, slot,
        is_first=is_first and not draft.decided.stays_up(service.name),
    )  # fmt: skip
    cause = stop_first_cause(service, old, is_ours=draft.observed.is_ours)
    if cause and pace.start_first and old.is_running:
        draft.builder.notes.append(
            draft.project.problem(
                f"{slot} stops before its successor starts: {cause}",
                "services", service.name, "deploy", "update_config", "order",
            )
        )  # fmt: skip
    return Turn(
        slot=slot,
        name=name,
        interim=interim,
        aside=_aside(old, name),
        old=old_ref,
        new=new_ref,
        stop=StopContainer(old_ref, draft.options.timeout, service.pre_stop)
        if old.is_running
        else None,
        start=StartContainer(new_ref, service.post_start, inits),
        remove=RemoveContainer(old_ref, volumes=draft.options.renew_anonymous_volumes),
        can_overlap=not cause and old.is_running,
    )


def add_replacement(draft: Draft, decision: ServiceDecision, recreation: Recreate) -> None:
    """New beside old, old stopped and set aside, new started, old removed: until the new one
    runs, the old one can be put back."""
    service, old = decision.service, recreation.container
    subject = names.slot(service.name, old.number)
    name = draft.project.container_name(service, old.number)
    old_ref, new_ref = Existing(old.id, old.name), Planned(subject)
    no_start = draft.options.no_start
    started = f"rename {subject}" if no_start else f"start {subject}"
    interim = _interim(draft, old, name)
    change = _change_of(draft, decision, recreation)
    create(draft, decision, change, old.number, created_as=interim, old=old, until=started)
    stopped = [CHECKPOINT]
    if old.is_running:
        # It may serve until those that its successor waits for are ready, unless somebody
        # needs its ports or it is to restart with them.
        early = service.name in draft.decided.restarting or draft.decided.is_wanted(old)
        waits = [] if early else conditions(draft, service.name)
        undo = StartContainer(old_ref)
        stopped = [stop(draft, change, old, undo=undo, until=[started], after=waits)]
    aside = draft.builder.step(
        f"set aside {subject}",
        RenameContainer(old_ref, _aside(old, name)),
        change,
        after=[f"create {subject}", *stopped],
        undo=RenameContainer(old_ref, old.name),
        until=[started],
    )
    renamed = draft.builder.step(
        f"rename {subject}",
        RenameContainer(new_ref, name),
        change,
        # Another container has the name only if an interrupted change left it there.
        after=[aside, *([f"remove {name}"] if old.name != name else [])],
    )
    if not no_start:
        start(draft, service.name, new_ref, subject, change, after=[renamed])
    draft.builder.step(
        f"remove {old.name}",
        RemoveContainer(old_ref, volumes=draft.options.renew_anonymous_volumes),
        change,
        after=[started],
    )


def _interim(draft: Draft, old: ObservedContainer, name: str) -> str:
    """A name that no left-over of a change that was cut short has: those go when all is made."""
    taken = {container.name for container in draft.decided.own[old.service]}
    interim = names.temporary_name(old.id, name)
    while interim in taken:
        interim += "_"
    return interim


def _aside(old: ObservedContainer, name: str) -> str:
    """Another name than it has, which engines refuse to give it again: it may have been set aside
    before, by a change that was cut short."""
    aside = names.outgoing_name(old.id, name)
    return aside if aside != old.name else f"{aside}_"


def _change_of(draft: Draft, decision: ServiceDecision, recreation: Recreate) -> int:
    name = decision.service.name
    return draft.builder.change(
        Verb.RECREATE, names.slot(name, recreation.container.number), recreation.cause,
        draft.at(name, *recreation.place), draft.fields(name, recreation.differences),
    )  # fmt: skip
