"""pure: images are built or pulled before all else."""

from __future__ import annotations

from compose.model.service import Service
from compose.plan.actions import PullImage
from compose.plan.builds import base_services, build_action, build_cause
from compose.plan.images import image_of, pull_cause
from compose.plan.plan import Verb
from compose.plan.steps.draft import Draft


def add_images(draft: Draft) -> None:
    project, observed, options = draft.project, draft.observed, draft.options
    services = [project.services[name] for name in draft.decided.services]
    for service in services:
        if cause := build_cause(project, service, observed, options):
            _build(draft, service, image_of(project, service), cause)
    for service in services:
        reference = image_of(project, service)
        if reference in draft.pulls:
            continue
        if cause := pull_cause(project, service, observed, options):
            change = draft.builder.change(
                Verb.PULL, f"image {reference}", cause, draft.at(service.name, "image")
            )
            draft.pulls[reference] = draft.builder.step(
                f"pull {reference}", PullImage(reference, service.platform), change
            )


def _build(draft: Draft, service: Service, reference: str, cause: str) -> None:
    """After those of other services that it is built on."""
    project, options = draft.project, draft.options
    if reference in draft.pulls:
        return
    after = []
    for base in base_services(project, service):
        below = image_of(project, base)
        if why := build_cause(project, base, draft.observed, options):
            _build(draft, base, below, why)
        if below in draft.pulls:
            after.append(draft.pulls[below])
    change = draft.builder.change(
        Verb.BUILD, f"image {reference}", cause, draft.at(service.name, "build")
    )
    action = build_action(project, service, options)
    draft.pulls[reference] = draft.builder.step(f"build {reference}", action, change, after=after)
