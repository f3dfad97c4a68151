"""pure: what becomes of each service and network, those that others need first.

How one service is decided is in `services.py`; here is what services mean to each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace

from compose.dataclass import dataclass
from compose.graph import dependency_order
from compose.model.project import Project
from compose.model.service import Service
from compose.plan import names
from compose.plan.actions import ContainerRef, Existing, Planned
from compose.plan.networks import NetworkDecision, decide_network
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import PlanOptions
from compose.plan.services import (
    Create,
    Keep,
    Recreate,
    Remove,
    ServiceDecision,
    decide_service,
    jobs,
)

HostPort = tuple[int, str]  # with its protocol


@dataclass(slots=True)
class Decisions:
    """`project` has the numbers of replicas that were asked for."""

    project: Project
    observed: Observed
    options: PlanOptions
    own: Mapping[str, Sequence[ObservedContainer]]  # by service
    networks: Mapping[str, NetworkDecision]
    publishers: Mapping[HostPort, set[str]]  # port -> services that are to have it
    jobs: frozenset[str]
    services: dict[str, ServiceDecision] = field(default_factory=dict)  # what others need first
    followers: dict[str, list[str]] = field(default_factory=dict)  # restarted with a service
    restarting: dict[str, str] = field(default_factory=dict)  # service -> why all of it restarts
    refs: dict[str, list[ContainerRef]] = field(default_factory=dict)  # of a service, afterwards

    @property
    def rebuilt(self) -> frozenset[str]:
        """Networks that are made anew."""
        return frozenset(key for key, each in self.networks.items() if each.is_rebuilt)

    def stays_up(self, service: str) -> bool:
        """Whether a container of it runs that is left alone."""
        return any(
            isinstance(decision, Keep) and decision.container.is_running
            for decision in self.services[service].decisions
        )

    def is_wanted(self, container: ObservedContainer) -> bool:
        """Whether another service is to have one of its ports."""
        return any(
            self.publishers.get((port.port, port.protocol), set()) - {container.service}
            for port in container.ports
        )


def decide(project: Project, observed: Observed, options: PlanOptions) -> Decisions:
    project = scaled(project, options.scale)
    made = Decisions(
        project, observed, options,
        own=_own(observed),
        networks={
            key: decide_network(project, network, observed)
            for key, network in project.networks.items()
        },
        publishers=_publishers(project),
        jobs=jobs(project),
    )  # fmt: skip
    replaced: dict[str, str] = {}  # service -> what becomes of its first container
    disturbed: set[str] = set()  # replaced or restarted
    rebuilt = made.rebuilt
    for name in dependency_order(dependency_edges(project.services)):
        service = project.services[name]
        own = made.own.get(name, ())
        if options.no_deps and not options.names(name):
            made.refs[name] = [Existing(container.id, container.name) for container in own]
            continue
        decision = decide_service(
            project, service, observed, own, options, replaced,
            completes=name in made.jobs,
        )  # fmt: skip
        made.services[name] = decision
        if decision.is_replaced:
            replaced[name] = "recreated"
            disturbed.add(name)
        elif decision.begins_anew:
            replaced[name] = "created"
        for needed, dependency in service.depends_on.items():
            if dependency.restart and needed in disturbed:
                made.followers.setdefault(needed, []).append(name)
                made.restarting.setdefault(name, f"restarts with {needed}")
        if changed := rebuilt.intersection(service.networks):
            made.restarting.setdefault(name, f"network {min(changed)} is recreated")
        if name in made.restarting and any(container.is_running for container in own):
            disturbed.add(name)
        made.refs[name] = _refs(decision)
    return made


def scaled(project: Project, scale: Mapping[str, int]) -> Project:
    if not scale:
        return project
    changed = {
        name: replace(service, scale=scale[name])
        for name, service in project.services.items()
        if name in scale
    }
    return replace(project, services={**project.services, **changed})


def dependency_edges(services: Mapping[str, Service]) -> dict[str, list[str]]:
    return {
        name: [needed for needed in service.depends_on if needed in services]
        for name, service in services.items()
    }


def _own(observed: Observed) -> dict[str, list[ObservedContainer]]:
    own: dict[str, list[ObservedContainer]] = {}
    for container in observed.containers:
        if not container.one_off and container.state != "removing":
            own.setdefault(container.service, []).append(container)
    return own


def _publishers(project: Project) -> dict[HostPort, set[str]]:
    found: dict[HostPort, set[str]] = {}
    for name, service in project.services.items():
        for port in service.ports:
            for host_port in port.host_ports:
                found.setdefault((host_port, port.protocol), set()).add(name)
    return found


def _refs(decision: ServiceDecision) -> list[ContainerRef]:
    found: list[ContainerRef] = []
    for each in decision.decisions:
        match each:
            case Keep(container=container, rename=rename):
                found.append(Existing(container.id, rename or container.name))
            case Create(number=number) | Recreate(container=ObservedContainer(number=number)):
                found.append(Planned(names.slot(decision.service.name, number)))
            case Remove():
                pass
    return found
