"""Observe, plan, apply, until a project is as its files say: what `up`, `watch` and healing share.

Each function that changes something holds the project's lock, returns an Outcome, and raises
ProjectError (nothing was touched), ApplyError (what failed, what was taken back), Busy or
EngineError. Nothing is printed: reports go to the listener.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compose.apply.errors import StepsFailed
from compose.apply.listener import Listener, Note, silent
from compose.apply.watch import ContainerWatch, watch_containers
from compose.change import Outcome, apply, changing, rehearse, wait_until_ready
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.dataclass import dataclass
from compose.errors import ApplyError, ComposeError, UsageError
from compose.model.project import Project
from compose.observe import observe, observed_container
from compose.plan import names
from compose.plan.actions import BuildImage, PullImage
from compose.plan.make import make_plan
from compose.plan.observed import ObservedContainer
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.plan.providers import as_before, provided, providers
from compose.plan.providers import notes as provider_notes

if TYPE_CHECKING:
    from compose.git import GitState
    from compose.revision import Revision

Confirm = Callable[[Plan], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class UpOptions:
    """`wait_timeout`: seconds, None: for ever. `confirm`: asked before a plan that isn't empty.
    `command`: what the history calls it; "": it isn't kept there. `atomic`: if it fails, return to
    the last revision."""

    plan: PlanOptions = field(default_factory=PlanOptions)
    wait: bool = False
    wait_timeout: float | None = None
    confirm: Confirm | None = None
    command: str = "up"
    atomic: bool = False
    git: GitState | None = None  # of what is applied, where that isn't the working tree


async def plan_up(engine: Engine, project: Project, options: PlanOptions) -> Plan:
    """What `up` would do. Changes nothing."""
    observed = await observe(engine, project.name, provided(project, {}))
    plan = make_plan(as_before(project, observed), observed, options)
    return replace(plan, notes=(*plan.notes, *provider_notes(project)))


async def write_plan(engine: Engine, project: Project, options: PlanOptions, path: Path) -> Plan:
    """Keep on file what `up` would do, for `up_as_planned`."""
    from compose import history
    from compose.planfile import PlanFile, plan_digest, write_plan_file

    plan = await plan_up(engine, project, options)
    declared = await history.describe(engine, project, plan, options, command="up")
    # As it will be made from the file, where configs from files are texts.
    again = await history.restored(engine, declared, project.name)
    digest = plan_digest(await plan_up(engine, again, options), again)
    write_plan_file(path, PlanFile(project.name, options, declared, digest))
    return plan


async def up_as_planned(
    engine: Engine, path: Path, options: UpOptions, listener: Listener = silent
) -> Outcome:
    """Do what the plan on file says. Raises UsageError where that would do something else now."""
    from compose import history
    from compose.plan.text import text
    from compose.planfile import moved, plan_digest, read_plan_file

    file = read_plan_file(path)
    project = await history.restored(engine, file.revision, file.project)
    with changing(engine, file.project, "up"):
        plan = await plan_up(engine, project, file.options)
        if plan_digest(plan, project) != file.digest:
            raise UsageError(
                f"what {path} foresees isn't what would be done now:\n"
                f"{moved(file, tuple(text(plan).splitlines()))}\n"
                f"  hint: look at it again: pycompose plan -o {path}"
            )
        return await up_unlocked(engine, project, replace(options, plan=file.options), listener)


async def up(
    engine: Engine, project: Project, options: UpOptions, listener: Listener = silent
) -> Outcome:
    """Make the engine's containers what the project declares."""
    with changing(engine, project.name, "up"):
        try:
            return await up_unlocked(engine, project, options, listener)
        except ApplyError as error:
            error.hint = await _after_failure(engine, project, options, listener, error)
            raise


async def _after_failure(
    engine: Engine, project: Project, options: UpOptions, listener: Listener, error: ApplyError
) -> str:
    """How the project stands, in words; with `atomic` after the return to the last revision."""
    from compose import history

    last = await history.last_whole(engine, project.name)
    if last is None:
        return "nothing was applied before, so there is nothing to return to" * options.atomic
    if await _runs(engine, last.number, project.name):
        return f"revision {last.number} runs on as before"
    is_paused = isinstance(error, StepsFailed) and bool(error.paused)
    if not options.atomic:
        goes_on = "up goes on from there; " * is_paused
        return f"{goes_on}to return to revision {last.number}: pycompose rollback {last.number}"
    try:
        # What is paused is a revision, so that to leave it is one, too.
        command = f"rollback {last.number}" * is_paused
        await _return_to(engine, last.number, project.name, listener, command)
    except ComposeError as in_vain:
        return f"could not return to revision {last.number}: {in_vain}"
    return f"returned to revision {last.number}"


async def _runs(engine: Engine, number: int, name: str) -> bool:
    try:
        return (await plan_rollback(engine, name, number)).is_empty
    except ComposeError:
        return False  # it can't be had any more, so it isn't what runs


async def as_last_applied(engine: Engine, name: str) -> int:
    """The number of the last revision, if what runs is all that it declares; else 0. Docker can't
    note in a container's labels what was changed as it ran: this tells."""
    from compose import history

    last = await history.last_whole(engine, name)
    return last.number if last and await _runs(engine, last.number, name) else 0


async def _return_to(
    engine: Engine, number: int, name: str, listener: Listener, command: str = ""
) -> Outcome:
    project, options = await _declared(engine, name, number)
    for warning in project.warnings:
        listener(Note(str(warning)))
    return await up_unlocked(engine, project, UpOptions(options, command=command), listener)


async def _declared(engine: Engine, name: str, number: int) -> tuple[Project, PlanOptions]:
    """What a revision declared, and how to come back to it: services that came since go again."""
    from compose import history

    revision = await history.revision(engine, name, number)
    project = await history.restored(engine, revision, name)
    return project, PlanOptions(remove_orphans=True, scale=revision.scale)


async def rollback(engine: Engine, name: str, number: int, listener: Listener = silent) -> Outcome:
    """Make what runs what an earlier revision declared."""
    with changing(engine, name, "rollback"):
        return await _return_to(engine, number, name, listener, f"rollback {number}")


async def plan_rollback(engine: Engine, name: str, number: int) -> Plan:
    project, options = await _declared(engine, name, number)
    return await plan_up(engine, project, options)


async def plan_healing(
    engine: Engine, revision: Revision, name: str, *, settled: frozenset[str] = frozenset()
) -> tuple[Plan, Project, PlanOptions]:
    """What brings back what the last revision declared, and from what that plan was made."""
    from compose import history

    project = await history.restored(engine, revision, name)
    options = PlanOptions(
        heal=True, ignore_orphans=True, scale=revision.scale, settled=settled,
        no_recreate=bool(revision.paused),  # a person goes on with that, or goes back
    )  # fmt: skip
    return await plan_up(engine, project, options), project, options


async def up_unlocked(
    engine: Engine, project: Project, options: UpOptions, listener: Listener
) -> Outcome:
    """`up`, for who holds the project's lock."""
    observed = await observe(engine, project.name, provided(project, {}))
    plan = make_plan(as_before(project, observed), observed, options.plan)
    if not plan.is_empty and options.confirm is not None and not await options.confirm(plan):
        return Outcome(plan, confirmed=False)
    if providers(project):
        project = await get_provided(engine, project, listener)
        plan = make_plan(project, observed, options.plan)
    if not plan.steps and not options.wait:
        return Outcome(plan, _ids(project, observed.containers))
    rehearse(engine, plan)
    async with watch_containers(engine, project.name) as watch:
        gets = (PullImage, BuildImage)
        if pulls := tuple(step for step in plan.steps if isinstance(step.action, gets)):
            # What an image brings decides what is recreated: get them, then look again.
            await apply(engine, watch, replace(plan, steps=pulls), listener)
            pulled = frozenset(
                step.action.reference for step in pulls if isinstance(step.action, gets)
            )
            plan = await plan_up(engine, project, replace(options.plan, pulled=pulled))
        revision: Revision | None = None
        if plan.steps:
            revision = await _apply_and_describe(engine, watch, project, plan, options, listener)
        containers = await _containers(engine, project)
        if options.wait:
            ids = [container for of_service in containers.values() for container in of_service]
            await wait_until_ready(watch, ids, listener, options.wait_timeout)
    if revision is not None:
        await _keep(engine, project, revision, listener)
    return Outcome(plan, containers)


async def get_provided(engine: Engine, project: Project, listener: Listener) -> Project:
    """The project with what the programs say that run some of its services."""
    from compose.apply.providers import provide

    if engine.rehearses or not providers(project):
        return provided(project, {})
    return provided(project, await provide(engine, project, listener))


async def _apply_and_describe(
    engine: Engine,
    watch: ContainerWatch,
    project: Project,
    plan: Plan,
    options: UpOptions,
    listener: Listener,
) -> Revision | None:
    """Meanwhile the engine's events tell of it, and what is to be kept of it is gathered. None:
    nothing is to be kept. An update that is paused is what was declared, all the same."""
    describing = asyncio.ensure_future(_describe(engine, project, plan, options, listener))
    try:
        await apply(engine, watch, plan, listener, patience=options.wait_timeout)
        return await describing
    except StepsFailed as error:
        if error.paused and (revision := await describing) is not None:
            await _keep(engine, project, replace(revision, paused=error.paused), listener)
        raise
    finally:
        describing.cancel()
        await asyncio.gather(describing, return_exceptions=True)


async def _describe(
    engine: Engine, project: Project, plan: Plan, options: UpOptions, listener: Listener
) -> Revision | None:
    from compose import history
    from compose.revision import summary_of

    with suppress(ClientError):  # an older engine: its events lack the word, nothing else
        await engine.revisions.announce(plan.project, summary_of(plan))
    if plan.is_empty or not options.command:
        return None
    try:
        return await history.describe(
            engine, project, plan, options.plan, command=options.command, git=options.git
        )
    except ClientError as error:
        listener(_not_kept(error))
        return None


async def _keep(engine: Engine, project: Project, revision: Revision, listener: Listener) -> None:
    from compose.revision import to_document

    try:
        await engine.revisions.add(project.name, to_document(revision))
    except ClientError as error:
        # What was asked for is done, and isn't undone for that.
        listener(_not_kept(error))


def _not_kept(error: ClientError) -> Note:
    return Note(f"this change is not in the history: {error}")


async def create(
    engine: Engine, project: Project, options: UpOptions, listener: Listener = silent
) -> Outcome:
    """`up` without starting anything."""
    plan_options = replace(options.plan, no_start=True)
    wanted = replace(options, plan=plan_options, command="create")
    return await up(engine, project, wanted, listener)


async def _containers(engine: Engine, project: Project) -> dict[str, tuple[str, ...]]:
    rows = await engine.containers.list(filters={"label": [f"{names.PROJECT}={project.name}"]})
    return _ids(project, map(observed_container, rows))


def _ids(project: Project, containers: Iterable[ObservedContainer]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for container in sorted(containers, key=lambda container: container.name):
        if container.service in project.services and not container.one_off:
            found[container.service] = (*found.get(container.service, ()), container.id)
    return found
