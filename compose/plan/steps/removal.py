"""pure: containers that go: replicas too many, left-overs, those of services that are gone."""

from __future__ import annotations

from collections.abc import Sequence

from compose.errors import Problem
from compose.plan import names
from compose.plan.actions import Existing, RemoveContainer
from compose.plan.observed import ObservedContainer
from compose.plan.plan import Verb
from compose.plan.steps.draft import CHECKPOINT, Draft
from compose.plan.steps.running import stop


def add_removal(draft: Draft, container: ObservedContainer, cause: str) -> None:
    change = draft.builder.change(Verb.REMOVE, _subject(container), cause)
    stopped = stop(draft, change, container) if container.is_running else CHECKPOINT
    remove = draft.builder.step(
        f"remove {container.name}",
        RemoveContainer(Existing(container.id, container.name), volumes=True),
        change,
        after=[CHECKPOINT, stopped],
    )
    draft.frees(container, remove)


def add_orphans(draft: Draft) -> None:
    known = draft.project.services.keys() | draft.project.disabled
    orphans = [
        container
        for container in draft.observed.containers
        if container.service not in known and not container.one_off
    ]
    ended = [
        container
        for container in draft.observed.containers
        if container.one_off and container.state in ("exited", "dead")
    ]
    if draft.options.remove_orphans:
        for container in orphans:
            add_removal(draft, container, "its service is no longer in the files")
        for container in ended:
            add_removal(draft, container, "run has ended")
    elif not draft.options.ignore_orphans:
        if orphans:
            _note(draft, "of services that are no longer in the files", orphans)
        if ended:
            _note(draft, "of run that have ended", ended)


def _note(draft: Draft, which: str, containers: Sequence[ObservedContainer]) -> None:
    listed = ", ".join(sorted(container.name for container in containers))
    draft.builder.notes.append(
        Problem(f"containers {which}: {listed}", hint="--remove-orphans removes them")
    )


def _subject(container: ObservedContainer) -> str:
    if container.one_off or not container.number:
        return f"container {container.name}"
    return names.slot(container.service, container.number)
