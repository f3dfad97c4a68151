"""pure: Project + Observed -> Plan.

`decide.py` says what becomes of each thing and why, `steps/` what has to be done for it and in
which order.
"""

from __future__ import annotations

from compose.errors import ProjectError
from compose.model.project import Project
from compose.plan.actions import Checkpoint
from compose.plan.decide import decide
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan, PlanBuilder
from compose.plan.preflight import not_handed_on, preflight, unheeded
from compose.plan.steps.draft import CHECKPOINT, Draft
from compose.plan.steps.images import add_images
from compose.plan.steps.removal import add_orphans
from compose.plan.steps.resources import add_networks, add_volumes, keep_what_is_used
from compose.plan.steps.services import add_services


def make_plan(project: Project, observed: Observed, options: PlanOptions) -> Plan:
    """What brings the engine to what the files declare. Raises ProjectError with all that is in
    the way, before anything has been done."""
    decided = decide(project, observed, options)
    project = decided.project
    problems = preflight(project, observed, options, decided.services.values(), decided.refs)
    problems += project.unmet
    if problems:
        raise ProjectError(*problems)
    builder = PlanBuilder(project.name)
    draft = Draft(decided, builder)
    add_images(draft)
    add_networks(draft)
    add_volumes(draft)
    add_orphans(draft)
    add_services(draft)
    keep_what_is_used(draft)
    for decision in decided.services.values():
        builder.notes += unheeded(project, decision.service)
        if observed.is_ours:
            builder.notes += not_handed_on(project, decision.service)
    if builder.steps:
        builder.step(CHECKPOINT, Checkpoint(), after=[*draft.pulls.values(), *draft.made])
    return builder.finish()
