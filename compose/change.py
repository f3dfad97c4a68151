"""How every change of a project is made: under its lock, from one look at the engine, by a plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path

from compose.apply.executor import apply_plan
from compose.apply.listener import Listener, silent
from compose.apply.lock import project_lock
from compose.apply.watch import ContainerWatch, watch_containers
from compose.client.engine import Engine
from compose.client.locate import built_in_places
from compose.dataclass import dataclass
from compose.errors import Rehearsed
from compose.model.project import Project
from compose.observe import observe
from compose.plan.observed import Observed
from compose.plan.plan import Plan


@dataclass(frozen=True, slots=True)
class Outcome:
    """`plan` as it was applied; `containers`: ids by service, as they are afterwards."""

    plan: Plan
    containers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    confirmed: bool = True


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
        rehearse(engine, plan)
        async with watch_containers(engine, name) as watch:
            await apply(engine, watch, plan, listener, patience=wait_timeout)
            if wait_for is not None:
                observed = await observe(engine, name)
                ids = [
                    container.id
                    for container in observed.containers
                    if not container.one_off and (not wait_for or container.service in wait_for)
                ]
                await wait_until_ready(watch, ids, listener, wait_timeout)
    return Outcome(plan)


async def apply_unlocked(engine: Engine, plan: Plan, listener: Listener) -> Outcome:
    """For what needs no lock: it touches no container, or has to work while an `up` hangs. None of
    it waits for what containers do, so the engine isn't asked for its events."""
    rehearse(engine, plan)
    await apply(engine, ContainerWatch(engine), plan, listener)
    return Outcome(plan)


def rehearse(engine: Engine, plan: Plan) -> None:
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


async def apply(
    engine: Engine,
    watch: ContainerWatch,
    plan: Plan,
    listener: Listener,
    *,
    patience: float | None = None,
) -> None:
    """`patience`: seconds that are waited for one dependency."""
    from compose.apply.perform import Performer  # for nothing, if there is nothing to do

    performer = Performer(engine, watch, listener, patience)
    await apply_plan(plan, performer, listener, parallel=engine.at_once)


async def wait_until_ready(
    watch: ContainerWatch, containers: Collection[str], listener: Listener, timeout: float | None
) -> None:
    from compose.apply.wait import await_ready, in_time

    async with in_time(watch, containers, timeout):
        await await_ready(watch, containers, listener)
