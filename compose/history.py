"""A project's revisions on its engine: kept after each change, found again, made to run again."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import Mapping
from dataclasses import replace

from compose.client.engine import Engine
from compose.client.errors import NotFound
from compose.errors import Problem, ProjectError, UsageError
from compose.git import GitError, GitState, Repository
from compose.model.project import Project
from compose.plan.images import image_of, is_directory
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.revision import Image, Revision, make_revision, parse_revision, project_of
from compose.tasks import Together


async def describe(
    engine: Engine,
    project: Project,
    plan: Plan,
    options: PlanOptions,
    *,
    command: str,
    git: GitState | None = None,
) -> Revision:
    """What is to be kept of a change. `git`: else as the folder is."""
    images = await images_of(engine, project)
    git = git or await asyncio.to_thread(git_state, project)
    return make_revision(
        project, plan, options, images, who=whoami(os.environ), command=command, git=git,
        engine_id=await engine.id() if project.secrets else "",
    )  # fmt: skip


async def revisions(engine: Engine, project: str) -> list[Revision]:
    """The oldest first."""
    return [parse_revision(document) for document in await engine.revisions.list(project)]


async def last_whole(engine: Engine, project: str) -> Revision | None:
    """The last one that was carried through; of a paused update only a part was."""
    found = [each for each in await revisions(engine, project) if not each.paused]
    return found[-1] if found else None


async def latest(engine: Engine, project: str) -> Revision:
    """The last one, whole. Raises UsageError where there is none."""
    found = await revisions(engine, project)
    if not found:
        raise UsageError(
            f"nothing was applied yet to project {project}\n  hint: pycompose up -d does it"
        )
    return await revision(engine, project, found[-1].number)


async def revision(engine: Engine, project: str, number: int) -> Revision:
    """Raises UsageError."""
    try:
        return parse_revision(await engine.revisions.get(project, number))
    except NotFound:
        raise UsageError(
            f"project {project} has no revision {number}\n  hint: see pycompose history"
        ) from None


async def previous(engine: Engine, project: str) -> Revision:
    """The one before the last, of those that were carried through. Raises UsageError."""
    found = [each for each in (await revisions(engine, project))[:-1] if not each.paused]
    if not found:
        raise UsageError(
            f"project {project} has no revision before this one\n  hint: see pycompose history"
        )
    return await revision(engine, project, found[-1].number)


async def restored(engine: Engine, revision: Revision, name: str) -> Project:
    """The project of a revision, its images pinned to what they were. Raises ProjectError where
    that can't be had any more."""
    engine_id = await engine.id()
    project = await asyncio.to_thread(project_of, revision, name, os.environ, engine_id)
    references = {image_of(project, service): key for key, service in project.services.items()}
    pins: dict[str, str] = {}
    gone: list[Problem] = []
    for reference, service in references.items():
        then = revision.images.get(reference)
        if then is None or is_directory(reference):
            continue
        now = await engine.images.find(reference)
        if now is not None and now.id == then.id:
            continue
        if await engine.images.find(then.id) is not None:
            pins[reference] = then.id
        elif then.digest:
            pins[reference] = then.digest
        else:
            gone.append(
                Problem(
                    f"the image that {reference} was in revision {revision.number} is gone: "
                    f"{then.id[:19]}",
                    path=f"services.{service}.image",
                    hint=_how_to_build(revision),
                )
            )
    if gone:
        raise ProjectError(*gone)
    return replace(project, pins=pins)


def _how_to_build(revision: Revision) -> str:
    if revision.git is None:
        return "build it again, and bring that up"
    return f"build it again: pycompose up --ref {revision.git.commit[:12]}"


async def images_of(engine: Engine, project: Project) -> dict[str, Image]:
    """Name -> what it means now, of those that are there."""
    references = sorted({image_of(project, each) for each in project.services.values()})
    names = {pinned: name for name, pinned in project.pins.items()}
    found: dict[str, Image] = {}
    async with Together() as group:
        tasks = {each: group.create_task(engine.images.find(each)) for each in references}
    for reference, task in tasks.items():
        if (image := task.result()) is not None:
            digest = next(iter(image.digests), "")
            found[names.get(reference, reference)] = Image(image.id, digest)
    return found


def git_state(project: Project) -> GitState | None:
    """None outside of a repository, and where git can't say."""
    repository = Repository.around(project.working_dir)
    if repository is None:
        return None
    try:
        return repository.state(project.working_dir)
    except GitError:
        return None  # a repository without a commit, or another user's: a revision all the same


def whoami(environment: Mapping[str, str]) -> str:
    """Who asked for it: behind sudo, the user there."""
    user = environment.get("SUDO_USER", "")
    if not user:
        try:
            user = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
