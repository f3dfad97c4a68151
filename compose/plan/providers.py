"""pure: services that a program of somebody else's runs (`provider`): no container is theirs.

What such a program says on `up` is environment of the services that depend on it. So plans are made
of a project without them: after the programs ran (`provided`), or, where nothing may run, with what
the containers got when they were made (`as_before`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from compose.errors import Problem
from compose.graph import dependency_order
from compose.model.project import Project
from compose.model.service import Service
from compose.plan.observed import Observed
from compose.plan.record import parse_record

Variables = Mapping[str, str]


def providers(project: Project) -> tuple[Service, ...]:
    """What is needed first comes first."""
    found = {name: each for name, each in project.services.items() if each.provider is not None}
    if not found:  # as nearly always: what follows walks the whole project
        return ()
    edges = {
        name: [needed for needed in service.depends_on if needed in project.services]
        for name, service in project.services.items()
    }
    return tuple(found[name] for name in dependency_order(edges) if name in found)


def provided(project: Project, said: Mapping[str, Variables]) -> Project:
    """`said`: service with a provider -> variables, by the names that dependents see."""
    gone = {service.name for service in providers(project)}
    if not gone:
        return project
    services = {
        name: _with(service, gone, said)
        for name, service in project.services.items()
        if name not in gone
    }
    return replace(project, services=services, disabled=project.disabled | gone)


def _with(service: Service, gone: set[str], said: Mapping[str, Variables]) -> Service:
    needed = [name for name in service.depends_on if name in gone]
    if not needed:
        return service
    found = {name: value for each in needed for name, value in said.get(each, {}).items()}
    kept = {name: edge for name, edge in service.depends_on.items() if name not in gone}
    environment = {**service.environment, **found}
    return replace(service, depends_on=kept, environment=environment, provided=tuple(found))


def as_before(project: Project, observed: Observed) -> Project:
    if not providers(project):
        return project
    project = provided(project, {})
    services = dict(project.services)
    for container in observed.containers:
        service = services.get(container.service)
        record = parse_record(container.record)
        if service is None or record is None or container.one_off:
            continue
        variables = _recorded(record)
        services[service.name] = replace(
            service,
            environment={**service.environment, **variables},
            provided=tuple(variables),
        )
    return replace(project, services=services)


def _recorded(record: Mapping[str, object]) -> dict[str, str]:
    names, made = record.get("provided"), record.get("service")
    environment = made.get("environment") if isinstance(made, dict) else None
    if not isinstance(names, list) or not isinstance(environment, dict):
        return {}
    return {name: str(environment[name]) for name in names if name in environment}


def notes(project: Project) -> tuple[Problem, ...]:
    return tuple(
        project.problem(
            f"{service.name} is run by {service.provider.type}: what it says is known then",
            "services", service.name, "provider",
        )
        for service in providers(project)
        if service.provider is not None
    )  # fmt: skip
