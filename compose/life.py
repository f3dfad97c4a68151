"""What is done to a project's containers and images because somebody asks for it: stop, start,
down, pull and the like, as `plan/life.py` draws it up. What the files ask for: converge.py.

Each function that changes something returns an Outcome, and raises as those of converge.py do.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from compose.apply.listener import Listener, silent
from compose.change import Outcome, apply_unlocked, change
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.errors import UsageError
from compose.model.project import Project
from compose.observe import observe
from compose.plan import life
from compose.plan.observed import Observed
from compose.plan.options import DownOptions, PlanOptions
from compose.plan.plan import Plan
from compose.plan.providers import provided, providers


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
    services: Collection[str] | None = None,
    timeout: int | None = None,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_stop_plan(observed, name, project, services=services, timeout=timeout)

    outcome = await change(engine, name, "stop", make, listener)
    if project is not None and providers(project) and not engine.rehearses:
        from compose.apply.providers import rest

        await rest(engine, project, services or (), listener)
    return outcome


async def start(
    engine: Engine,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] | None = None,
    wait: bool = False,
    wait_timeout: float | None = None,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        there = {container.service for container in observed.containers if not container.one_off}
        for service in services or (project.services if project else ()):
            known = project.services.get(service) if project else None
            is_made = known is None or (known.replicas > 0 and known.provider is None)
            if is_made and service not in there:
                raise UsageError(
                    f'service "{service}" has no container to start\n'
                    f"  hint: make it with: pycompose up -d {service}"
                )
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
    services: Collection[str] | None = None,
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
    services: Collection[str] | None = None,
    signal: str = "SIGKILL",
    listener: Listener = silent,
) -> Outcome:
    """Without the lock: it has to work while an `up` hangs."""
    observed = await observe(engine, name)
    plan = life.make_kill_plan(observed, name, services=services, signal=signal)
    return await apply_unlocked(engine, plan, listener)


async def pause(
    engine: Engine,
    name: str,
    *,
    services: Collection[str] | None = None,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_pause_plan(observed, name, services=services)

    return await change(engine, name, "pause", make, listener)


async def unpause(
    engine: Engine,
    name: str,
    *,
    services: Collection[str] | None = None,
    listener: Listener = silent,
) -> Outcome:
    def make(observed: Observed) -> Plan:
        return life.make_unpause_plan(observed, name, services=services)

    return await change(engine, name, "unpause", make, listener)


async def remove(
    engine: Engine,
    name: str,
    project: Project | None = None,
    *,
    services: Collection[str] | None = None,
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


async def pull(
    engine: Engine, project: Project, *, policy: str = "", listener: Listener = silent
) -> Outcome:
    """The images of the project's services, all at once. `policy`: always or missing; "": as they
    say."""
    project = provided(project, {})
    observed = await observe(engine, project.name, project)
    plan = life.make_pull_plan(project, observed, policy)
    return await apply_unlocked(engine, plan, listener)


async def push(engine: Engine, project: Project, *, listener: Listener = silent) -> Outcome:
    """The images that the project builds, to their registries, all at once."""
    plan = life.make_push_plan(project)
    return await apply_unlocked(engine, plan, listener)


async def build(
    engine: Engine, project: Project, options: PlanOptions, listener: Listener = silent
) -> Outcome:
    """The images of the services that say how, all at once."""
    plan = life.make_build_plan(project, options)
    return await apply_unlocked(engine, plan, listener)
