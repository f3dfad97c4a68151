"""pure: each service's containers, those of services that others need first."""

from __future__ import annotations

from compose.plan import names
from compose.plan.actions import Planned
from compose.plan.plan import Verb
from compose.plan.services import Create, Keep, Recreate, Remove, ServiceDecision
from compose.plan.steps.creation import create
from compose.plan.steps.draft import Draft, stop_key
from compose.plan.steps.kept import add_kept
from compose.plan.steps.removal import add_removal
from compose.plan.steps.replacement import add_replacement, add_update, pace_of
from compose.plan.steps.running import start


def add_services(draft: Draft) -> None:
    decided = draft.decided.services
    # What goes gives its ports back to whatever comes, wherever that stands.
    for decision in decided.values():
        for each in decision.decisions:
            if isinstance(each, Remove):
                add_removal(draft, each.container, each.cause)
            elif isinstance(each, Recreate):
                draft.frees(each.container, stop_key(each.container))
    for name, decision in decided.items():
        draft.starts[name] = []
        if (pace := pace_of(draft, decision)) is not None:
            add_update(draft, decision, pace)
        for each in decision.decisions:
            match each:
                case Keep():
                    add_kept(draft, decision, each)
                case Create():
                    _add_creation(draft, decision, each)
                case Recreate() if pace is None:
                    add_replacement(draft, decision, each)


def _add_creation(draft: Draft, decision: ServiceDecision, creation: Create) -> None:
    service = decision.service
    subject = names.slot(service.name, creation.number)
    name = draft.project.container_name(service, creation.number)
    change = draft.builder.change(
        Verb.CREATE, subject, creation.cause, draft.project.at("services", service.name)
    )
    create(draft, decision, change, creation.number, created_as=name, old=None)
    if not draft.options.no_start:
        created = [f"create {subject}"]
        start(draft, service.name, Planned(subject), subject, change, after=created)
