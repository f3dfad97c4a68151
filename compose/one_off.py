"""`pycompose run`: one more container of a service, for one command."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from compose.apply.listener import Listener, Note, silent
from compose.apply.watch import watch_containers
from compose.change import apply, changing
from compose.client.engine import Engine
from compose.converge import UpOptions, get_provided, up_unlocked
from compose.errors import UsageError
from compose.model.project import Project
from compose.model.service import Condition, Dependency
from compose.observe import observe
from compose.plan import life
from compose.plan.actions import AwaitCondition, Existing
from compose.plan.builds import build_cause
from compose.plan.images import pull_cause
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions

if TYPE_CHECKING:
    from compose.plan.run import RunOptions


async def make_run(
    engine: Engine, project: Project, options: RunOptions, listener: Listener = silent
) -> Existing:
    """A created one-off container, with what the service needs made, running and ready."""
    if project.services[options.service].provider is not None:
        raise UsageError(f"{options.service} has no containers: its provider runs it")
    project = await get_provided(engine, project, listener)
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
        outcome = await up_unlocked(engine, around, UpOptions(wanted, command=""), listener)
        for note in outcome.plan.notes:
            listener(Note(str(note)))
        engine.would(f"run a container of {service.name}")
        async with watch_containers(engine, project.name) as watch:
            observed = await observe(engine, project.name, alone)
            if build_cause(alone, service, observed, PlanOptions(build=options.build)):
                builds = life.make_build_plan(alone, PlanOptions())
                await apply(engine, watch, builds, listener)
            observed = await observe(engine, project.name, alone)
            if pull_cause(alone, service, observed, PlanOptions(pull=options.pull)):
                pulls = life.make_pull_plan(alone, observed, "always")
                await apply(engine, watch, pulls, listener)
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
