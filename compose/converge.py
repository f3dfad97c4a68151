"""Observe, plan, apply: what `up`, `down`, `watch` and the like share.

Each function that changes something holds the project's lock, returns an Outcome, and raises
ProjectError (nothing was touched), ApplyError (what failed, what was taken back), Busy or
EngineError. Nothing is printed: reports go to the listener.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compose.apply.errors import StepsFailed, WaitFailed
from compose.apply.executor import PARALLEL, apply_plan
from compose.apply.listener import Listener, Note, silent
from compose.apply.lock import project_lock
from compose.apply.watch import ContainerWatch, watch_containers
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.client.locate import built_in_places
from compose.dataclass import dataclass
from compose.errors import ApplyError, ComposeError, Rehearsed, UsageError
from compose.model.project import Project
from compose.model.service import Condition, Dependency
from compose.observe import observe, observed_container
from compose.plan import life, names
from compose.plan.actions import AwaitCondition, BuildImage, Existing, PullImage
from compose.plan.builds import build_cause
from compose.plan.make import make_plan
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import DownOptions, PlanOptions
from compose.plan.plan import Plan
from compose.plan.providers import as_before, provided, providers
from compose.plan.providers import notes as provider_notes

if TYPE_CHECKING:
    from compose.git import GitState
    from compose.plan.run import RunOptions
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
    parallel: int = PARALLEL
    confirm: Confirm | None = None
    command: str = "up"
    atomic: bool = False
    git: GitState | None = None  # of what is applied, where that isn't the working tree


@dataclass(frozen=True, slots=True)
class Outcome:
    """`plan` as it was applied; `containers`: ids by service, as they are afterwards."""

    plan: Plan
    containers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    confirmed: bool = True


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
        return await _up(engine, project, replace(options, plan=file.options), listener)


async def up(
    engine: Engine, project: Project, options: UpOptions, listener: Listener = silent
) -> Outcome:
    """Make the engine's containers what the project declares."""
    with changing(engine, project.name, "up"):
        try:
            return await _up(engine, project, options, listener)
        except ApplyError as error:
            error.hint = await _after_failure(engine, project, options, listener)
            raise


async def _after_failure(
    engine: Engine, project: Project, options: UpOptions, listener: Listener
) -> str:
    """How the project stands, in words; with `atomic` after the return to the last revision."""
    from compose import history

    last = await history.last_whole(engine, project.name)
    if last is None:
        return "nothing was applied before, so there is nothing to return to" * options.atomic
    if await _runs(engine, last.number, project.name):
        return f"revision {last.number} runs on as before"
    if not options.atomic:
        return f"to return to what ran before: pycompose rollback {last.number}"
    try:
        await _return_to(engine, last.number, project.name, listener)
    except ComposeError as error:
        return f"could not return to revision {last.number}: {error}"
    return f"returned to revision {last.number}"


async def _runs(engine: Engine, number: int, name: str) -> bool:
    try:
        return (await plan_rollback(engine, name, number)).is_empty
    except ComposeError:
        return False  # it can't be had any more, so it isn't what runs


async def _return_to(
    engine: Engine, number: int, name: str, listener: Listener, command: str = ""
) -> Outcome:
    project, options = await _declared(engine, name, number)
    for warning in project.warnings:
        listener(Note(str(warning)))
    return await _up(engine, project, UpOptions(options, command=command), listener)


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


async def _up(engine: Engine, project: Project, options: UpOptions, listener: Listener) -> Outcome:
    observed = await observe(engine, project.name, provided(project, {}))
    plan = make_plan(as_before(project, observed), observed, options.plan)
    if not plan.is_empty and options.confirm is not None and not await options.confirm(plan):
        return Outcome(plan, confirmed=False)
    if providers(project):
        project = await _provided(engine, project, listener)
        plan = make_plan(project, observed, options.plan)
    if not plan.steps and not options.wait:
        return Outcome(plan, _ids(project, observed.containers))
    _rehearse(engine, plan)
    async with watch_containers(engine, project.name) as watch:
        gets = (PullImage, BuildImage)
        if pulls := tuple(step for step in plan.steps if isinstance(step.action, gets)):
            # What an image brings decides what is recreated: get them, then look again.
            await _apply(engine, watch, replace(plan, steps=pulls), listener, options.parallel)
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
            await _wait_until_ready(watch, ids, options.wait_timeout)
    if revision is not None:
        await _keep(engine, project, revision, listener)
    return Outcome(plan, containers)


async def _provided(engine: Engine, project: Project, listener: Listener) -> Project:
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
        await _apply(engine, watch, plan, listener, options.parallel)
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


async def down(
    engine: Engine,
    name: str,
    project: Project | None,
    options: DownOptions,
    listener: Listener = silent,
) -> Outcome:
    """Remove what the project has on the engine. `project` None: by labels alone."""

    def make(observed: Observed) -> Plan:
        return life.make_down_plan(observed, name, project, options)

    outcome = await change(engine, name, "down", make, listener, project=project)
    if project is not None and providers(project) and not engine.rehearses:
        from compose.apply.providers import withdraw

        await withdraw(engine, project, options.services, listener)
    if options.volumes and not options.services:
        # Nothing is left to go back to.
        with suppress(ClientError):  # an older engine, which has none
            await engine.revisions.remove(name)
    return outcome


async def stop(
    engine: Engine,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] = (),
    timeout: int | None = None,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_stop_plan(observed, name, project, services=services, timeout=timeout)

    outcome = await change(engine, name, "stop", make, listener)
    if project is not None and providers(project) and not engine.rehearses:
        from compose.apply.providers import rest

        await rest(engine, project, services, listener)
    return outcome


async def start(
    engine: Engine,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] = (),
    wait: bool = False,
    wait_timeout: float | None = None,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_start_plan(observed, name, project, services=services)

    return await change(
        engine, name, "start", make, listener,
        wait_for=services if wait else None, wait_timeout=wait_timeout,
    )  # fmt: skip


async def restart(
    engine: Engine,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] = (),
    timeout: int | None = None,
    no_deps: bool = False,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_restart_plan(
            observed, name, project, services=services, timeout=timeout, no_deps=no_deps
        )

    return await change(engine, name, "restart", make, listener)


async def kill(
    engine: Engine,
    name: str,
    *,
    services: Collection[str] = (),
    signal: str = "SIGKILL",
    listener: Listener = silent,
) -> Outcome:
    """Without the lock: it has to work while an `up` hangs."""
    observed = await observe(engine, name)
    plan = life.make_kill_plan(observed, name, services=services, signal=signal)
    _rehearse(engine, plan)
    async with watch_containers(engine, name) as watch:
        await _apply(engine, watch, plan, listener, PARALLEL)
    return Outcome(plan)


async def pause(
    engine: Engine, name: str, *, services: Collection[str] = (), listener: Listener = silent
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_pause_plan(observed, name, services=services)

    return await change(engine, name, "pause", make, listener)


async def unpause(
    engine: Engine, name: str, *, services: Collection[str] = (), listener: Listener = silent
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_unpause_plan(observed, name, services=services)

    return await change(engine, name, "unpause", make, listener)


async def remove(
    engine: Engine,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] = (),
    stop_first: bool = False,
    volumes: bool = False,
    timeout: int | None = None,
    listener: Listener = silent,
) -> Outcome:
    """`rm`."""

    def make(observed: Observed) -> Plan:
        return life.make_remove_plan(
            observed, name, project,
            services=services, stop=stop_first, volumes=volumes, timeout=timeout,
        )  # fmt: skip

    return await change(engine, name, "rm", make, listener)


async def make_run(
    engine: Engine, project: Project, options: RunOptions, listener: Listener = silent
) -> Existing:
    """A created one-off container, with what the service needs made, running and ready."""
    if project.services[options.service].provider is not None:
        raise UsageError(f"{options.service} has no containers: its provider runs it")
    project = await _provided(engine, project, listener)
    service = project.services[options.service]
    needed = {} if options.no_deps else {
        name: other for name, other in project.services.items() if name != service.name
    }  # fmt: skip
    # Without the service itself: its networks and volumes are made all the same.
    around = replace(project, services=needed, disabled=project.disabled | {*project.services})
    alone = replace(project, services={service.name: service})
    with changing(engine, project.name, "run"):
        wanted = PlanOptions(
            ignore_orphans=options.ignore_orphans,
            remove_orphans=options.remove_orphans,
            build=options.build,
            pull=options.pull,
        )
        outcome = await _up(engine, around, UpOptions(wanted, command=""), listener)
        for note in outcome.plan.notes:
            listener(Note(str(note)))
        if engine.rehearses:
            raise Rehearsed(f"run a container of {service.name}")
        async with watch_containers(engine, project.name) as watch:
            observed = await observe(engine, project.name, alone)
            if build_cause(alone, service, observed, PlanOptions(build=options.build)):
                builds = life.make_build_plan(alone, PlanOptions())
                await _apply(engine, watch, builds, listener, PARALLEL)
            if options.pull != "never":
                observed = await observe(engine, project.name, alone)
                pulls = life.make_pull_plan(alone, observed, options.pull or "missing")
                await _apply(engine, watch, pulls, listener, PARALLEL)
            observed = await observe(engine, project.name, project)
            from compose.apply.perform import Performer

            performer = Performer(engine, watch, listener)
            for dependency in service.depends_on.values():
                # What need only be started has been, and may have ended since.
                if dependency.service in needed and dependency.condition is not Condition.STARTED:
                    await performer.perform(_condition(observed, dependency))
            from compose.plan.run import make_one_off

            action = make_one_off(project, observed, options, os.urandom(6).hex())
            await performer.perform(action)
    return Existing(performer.made[action.slot], action.name)


def _condition(observed: Observed, dependency: Dependency) -> AwaitCondition:
    containers = tuple(
        Existing(container.id, container.name)
        for container in observed.containers
        if container.service == dependency.service and not container.one_off
    )
    return AwaitCondition(dependency.service, dependency.condition, containers, dependency.required)


async def pull(
    engine: Engine, project: Project, *, policy: str = "always", listener: Listener = silent
) -> Outcome:
    """The images of the project's services, all at once. `policy`: always or missing."""
    project = provided(project, {})
    observed = await observe(engine, project.name, project)
    plan = life.make_pull_plan(project, observed, policy)
    _rehearse(engine, plan)
    async with watch_containers(engine, project.name) as watch:
        await _apply(engine, watch, plan, listener, PARALLEL)
    return Outcome(plan)


async def push(engine: Engine, project: Project, *, listener: Listener = silent) -> Outcome:
    """The images that the project builds, to their registries, all at once."""
    plan = life.make_push_plan(project)
    _rehearse(engine, plan)
    async with watch_containers(engine, project.name) as watch:
        await _apply(engine, watch, plan, listener, PARALLEL)
    return Outcome(plan)


async def build(
    engine: Engine, project: Project, options: PlanOptions, listener: Listener = silent
) -> Outcome:
    """The images of the services that say how, all at once."""
    plan = life.make_build_plan(project, options)
    _rehearse(engine, plan)
    async with watch_containers(engine, project.name) as watch:
        await _apply(engine, watch, plan, listener, PARALLEL)
    return Outcome(plan)


async def change(
    engine: Engine,
    name: str,
    action: str,
    make: Callable[[Observed], Plan],
    listener: Listener = silent,
    *,
    project: Project | None = None,
    wait_for: Collection[str] | None = None,
    wait_timeout: float | None = None,
) -> Outcome:
    """Apply the plan that `make` draws up, under the project's lock. With `wait_for` (services;
    empty: all), wait until their containers are ready."""
    with changing(engine, name, action):
        plan = make(await observe(engine, name, project))
        _rehearse(engine, plan)
        async with watch_containers(engine, name) as watch:
            await _apply(engine, watch, plan, listener, PARALLEL)
            if wait_for is not None:
                observed = await observe(engine, name)
                ids = [
                    container.id
                    for container in observed.containers
                    if not container.one_off and (not wait_for or container.service in wait_for)
                ]
                await _wait_until_ready(watch, ids, wait_timeout)
    return Outcome(plan)


def _rehearse(engine: Engine, plan: Plan) -> None:
    """Raises Rehearsed with the plan's lines, where the engine is only asked."""
    if engine.rehearses:
        from compose.plan.text import text

        raise Rehearsed(*text(plan).splitlines())


@contextmanager
def changing(engine: Engine, project: str, action: str) -> Iterator[None]:
    """Holds the project's lock; raises Busy when another process has it."""
    folder = lock_folder(os.environ)
    with project_lock(folder, engine=str(engine.address), project=project, action=action):
        yield


def lock_folder(environment: Mapping[str, str]) -> Path:
    """Beside the built-in engine's socket; for users without a folder for such, as those of
    another engine may be, below /tmp."""
    exec_root = built_in_places(os.getuid(), environment).exec_root
    if os.access(exec_root if exec_root.exists() else exec_root.parent, os.W_OK):
        return exec_root / "locks"
    return Path(f"/tmp/pycompose-{os.getuid()}")


async def _apply(
    engine: Engine, watch: ContainerWatch, plan: Plan, listener: Listener, parallel: int
) -> None:
    from compose.apply.perform import Performer  # for nothing, if there is nothing to do

    await apply_plan(plan, Performer(engine, watch, listener), listener, parallel=parallel)


async def _containers(engine: Engine, project: Project) -> dict[str, tuple[str, ...]]:
    rows = await engine.containers.list(filters={"label": [f"{names.PROJECT}={project.name}"]})
    return _ids(project, map(observed_container, rows))


def _ids(project: Project, containers: Iterable[ObservedContainer]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for container in sorted(containers, key=lambda container: container.name):
        if container.service in project.services and not container.one_off:
            found[container.service] = (*found.get(container.service, ()), container.id)
    return found


async def _wait_until_ready(
    watch: ContainerWatch, containers: Collection[str], timeout: float | None
) -> None:
    from compose.apply.wait import await_ready, unready

    try:
        async with asyncio.timeout(timeout):
            await await_ready(watch, containers)
    except TimeoutError:
        late = ", ".join(await unready(watch, containers))
        raise WaitFailed(
            f"not ready after {timeout:g} s: {late}",
            hint="look at their logs, or give more time with --wait-timeout",
        ) from None
