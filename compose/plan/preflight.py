"""pure: all that can be known to go wrong, before the first change: everything at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from compose.errors import Problem
from compose.model.mount import MountType
from compose.model.port import Port
from compose.model.project import Project
from compose.model.resources import FileObject
from compose.model.service import Condition, Service
from compose.plan.actions import ContainerRef
from compose.plan.builds import base_services, build_cause, build_problems
from compose.plan.container import is_given, seccomp_file
from compose.plan.handover import is_open_to_all, shares_ports
from compose.plan.images import image_of, is_directory, pull_cause
from compose.plan.networks import changed_network
from compose.plan.observed import (
    ForeignContainer,
    Observed,
    ObservedContainer,
    ObservedPort,
)
from compose.plan.options import PlanOptions
from compose.plan.services import Create, Keep, Recreate, ServiceDecision
from compose.plan.sharing import loans, shared_containers
from compose.plan.volumes import changed_volume

ANY_ADDRESS = ("", "0.0.0.0", "::")


def preflight(
    project: Project,
    observed: Observed,
    options: PlanOptions,
    decided: Iterable[ServiceDecision],
    refs: Mapping[str, Sequence[ContainerRef]],
) -> list[Problem]:
    """`refs`: of services, the containers that they will have."""
    problems: list[Problem] = []
    decisions = tuple(decided)
    foreign = {container.name: container for container in observed.foreign}
    own = {container.name: container for container in observed.containers}
    problems += _networks(project, observed)
    problems += _volumes(project, observed)
    for decision in decisions:
        service = decision.service
        problems += _unsupported(project, service)
        if observed.is_ours:
            problems += _device_requests(project, service)
        if any(isinstance(each, (Create, Recreate)) for each in decision.decisions):
            problems += _image(project, service, observed, options)
            problems += _files(project, service, observed)
            problems += _mounts(project, service, observed)
        problems += _parents(project, service, refs)
        problems += _shared(project, service, observed, decisions)
        problems += _names(project, decision, foreign, own)
        problems += _health_conditions(project, service, observed)
    problems += _ports(project, observed, options, decisions)
    return problems


def _parents(
    project: Project, service: Service, refs: Mapping[str, Sequence[ContainerRef]]
) -> Iterator[Problem]:
    """Containers that its own are made from have to be there."""
    for loan in loans(service):
        if loan.of_service and loan.name in project.services and not refs.get(loan.name):
            yield project.problem(
                f"{loan.name} has no container to take this from",
                *("services", service.name, *loan.place),
                hint=f"make it with: pycompose up -d {loan.name}",
            )


BUILT_IN_NETWORKS = ("", "default", "bridge", "host", "none")


def _shared(
    project: Project,
    service: Service,
    observed: Observed,
    decided: Iterable[ServiceDecision],
) -> Iterator[Problem]:
    """Containers and networks that it calls by the names that they have on the engine."""
    if named := shared_containers(service):
        present = [(each.id, each.name) for each in observed.containers]
        present += [(each.id, each.name) for each in observed.foreign]
        known = {name for _, name in present}
        known |= {
            project.container_name(other.service, each.number)
            for other in decided
            for each in other.decisions
            if isinstance(each, Create)
        }
        for place, name in named.items():
            if name not in known and not any(id.startswith(name) for id, _ in present):
                yield project.problem(
                    f"there is no container {name}", "services", service.name, *place,
                    hint='a service of this project is meant by "service:NAME"',
                )  # fmt: skip
    mode = service.network_mode
    if not observed.is_ours or mode in BUILT_IN_NETWORKS or ":" in mode:
        return  # other engines may know more of them
    known = {network.name for network in observed.networks.values()}
    known |= {network.name for network in project.networks.values()}
    if mode not in known and not any(n.id.startswith(mode) for n in observed.networks.values()):
        yield project.problem(
            f"there is no network {mode}", "services", service.name, "network_mode",
            hint="one of this project is declared under networks:, and named in the service's",
        )  # fmt: skip


# What no engine is told, and what to do instead.
_UNSUPPORTED = {
    "models": "serve the model yourself, and give its address as environment",
    "credential_spec": "it is for Windows",
    "cpu_count": "it is for Windows: use cpus",
    "cpu_percent": "it is for Windows: use cpus",
    "isolation": "it is for Windows: leave it out",
}


def _unsupported(project: Project, service: Service) -> list[Problem]:
    place = ("services", service.name)
    problems = [
        project.problem(f"{key} is not supported", *place, key, hint=hint)
        for key, hint in _UNSUPPORTED.items()
        if (value := getattr(service, key)) and value != "default"
    ]
    for index, mount in enumerate(service.volumes):
        if mount.type is MountType.CLUSTER:
            problems.append(
                project.problem(
                    "volumes of a cluster are not supported", *place, "volumes", index,
                    hint="they are Swarm's: use type: volume",
                )
            )  # fmt: skip
    for kind, objects, references in (
        ("configs", project.configs, service.configs),
        ("secrets", project.secrets, service.secrets),
    ):
        for reference in references:
            source = objects.get(reference.source)
            if source is not None and source.template_driver:
                problems.append(
                    project.problem(
                        "template_driver is not supported: it would be put in as it is",
                        kind, reference.source, "template_driver",
                        hint="write ${NAME} into content:, which is filled in when it is read",
                    )
                )  # fmt: skip
    return problems


def _device_requests(project: Project, service: Service) -> list[Problem]:
    """Engines with drivers of devices follow them; pycompose's own has none."""
    reserved = service.deploy.reservations if service.deploy else None
    asked = {
        ("gpus",): service.gpus,
        ("deploy", "resources", "reservations", "devices"): reserved.devices if reserved else (),
    }
    return [
        project.problem(
            "pycompose's own engine has no drivers that find GPUs",
            *("services", service.name, *place),
            hint="name the devices themselves, as in devices: [/dev/dri]; or use a Docker that has"
            " the driver: DOCKER_HOST",
        )
        for place, requests in asked.items()
        if requests
    ]


def not_handed_on(project: Project, service: Service) -> list[Problem]:
    """Files of a service that another takes the volumes of: where they are binds, as Docker Compose
    makes them, volumes_from takes them along; files of a container's own it doesn't."""
    notes = []
    for index, source in enumerate(service.volumes_from):
        other = project.services.get(source.partition(":")[0])
        if other is None:
            continue
        for kind, theirs, own in (
            ("configs", other.configs, service.configs),
            ("secrets", other.secrets, service.secrets),
        ):
            missing = sorted({each.source for each in theirs} - {each.source for each in own})
            if missing:
                notes.append(
                    project.problem(
                        f"{kind} of {other.name} aren't handed on: {', '.join(missing)}",
                        *("services", service.name, "volumes_from", index),
                        hint=f"name them in services.{service.name}.{kind}, too",
                    )
                )
    return notes


def unheeded(project: Project, service: Service) -> list[Problem]:
    """What is meant for many machines: told, since it changes nothing on one engine."""
    deploy = service.deploy
    if deploy is None:
        return []
    wanted = {
        "mode": deploy.mode not in ("", "replicated", "replicated-job"),
        "placement": bool(
            deploy.placement.constraints
            or deploy.placement.spread
            or deploy.placement.max_replicas_per_node
        ),
        "endpoint_mode": bool(deploy.endpoint_mode),
        "labels": bool(deploy.labels),
    }
    places: list[tuple[str, ...]] = [(key,) for key, present in wanted.items() if present]
    if reserved := deploy.reservations:
        above = ("resources", "reservations")
        places += [(*above, "cpus")] * bool(reserved.cpus)
        places += [(*above, "generic_resources")] * bool(reserved.generic_resources)
    if policy := deploy.restart_policy:
        places += [("restart_policy", "delay")] * bool(policy.delay)
        places += [("restart_policy", "window")] * bool(policy.window)
    return [
        project.problem(f"{place[-1]} is not heeded", "services", service.name, "deploy", *place)
        for place in places
    ]


def _image(
    project: Project, service: Service, observed: Observed, options: PlanOptions
) -> list[Problem]:
    reference = image_of(project, service)
    if build_cause(project, service, observed, options):
        bases = base_services(project, service)
        return [p for each in (service, *bases) for p in build_problems(project, each)]
    if reference in observed.images or pull_cause(project, service, observed, options):
        return []
    if service.build is not None:
        return [
            project.problem(
                f"image {reference} is not on the engine", "services", service.name, "build",
                hint="pull_policy or --no-build says not to build it",
            )
        ]  # fmt: skip
    if is_directory(reference):
        return [
            project.problem(
                f"cannot use {reference} as an image: the engine has no such directory",
                "services", service.name, "image",
                hint="rootfs: names a directory on the machine of pycompose's own engine",
            )
        ]  # fmt: skip
    hint = "pull_policy or --pull says not to pull it"
    return [
        project.problem(
            f"image {reference} is not on the engine", "services", service.name, "image", hint=hint
        )
    ]


def _files(project: Project, service: Service, observed: Observed) -> list[Problem]:
    problems: list[Problem] = []
    kinds: tuple[tuple[str, dict[str, FileObject]], ...] = (
        ("configs", dict(project.configs)),
        ("secrets", dict(project.secrets)),
    )
    for kind, objects in kinds:
        references = service.configs if kind == "configs" else service.secrets
        for index, reference in enumerate(references):
            source = objects.get(reference.source)
            if source is None:
                continue
            place = ("services", service.name, kind, index)
            if (source.external or source.driver) and source.content is None:
                keeper = "Swarm" if kind == "configs" or source.driver else "Swarm or a store here"
                hint = "give it a file, or an environment variable"
                if kind == "secrets" and source.external:
                    hint = f"pycompose secret create {source.name}"
                problems.append(
                    project.problem(
                        f"cannot get {kind[:-1]} {reference.source}: it is external, and only"
                        f" {keeper} keeps such",
                        *place,
                        hint=hint,
                    )
                )
            elif (
                service.read_only
                and not observed.is_ours
                and is_given(reference, source, service, placed=False)
            ):
                problems.append(
                    project.problem(
                        f"cannot put {kind[:-1]} {reference.source} into a container that is"
                        " read_only",
                        *place,
                        hint=f"keep it in a file: {kind}.{reference.source}.file",
                    )
                )
            for name, identity in (("uid", reference.uid), ("gid", reference.gid)):
                if identity and not identity.isdigit():
                    problems.append(
                        project.problem(
                            f"{name} {identity!r} is not a number", *place, name,
                            hint="names are known only inside of the container",
                        )
                    )  # fmt: skip
    return problems


def _mounts(project: Project, service: Service, observed: Observed) -> list[Problem]:
    problems = []
    for index, mount in enumerate(service.volumes):
        made = mount.bind is None or mount.bind.makes_source
        if mount.type is MountType.BIND and not made and mount.source in observed.missing_paths:
            problems.append(
                project.problem(
                    f"cannot mount {mount.source}: no such file or directory",
                    "services", service.name, "volumes", index,
                    hint="make it, or set bind.create_host_path: true",
                )
            )  # fmt: skip
    for index, option in enumerate(service.security_opt):
        path = seccomp_file(project, option)
        if path and path not in observed.profiles:
            problems.append(
                project.problem(
                    f"cannot read the seccomp profile {path}",
                    "services", service.name, "security_opt", index,
                    hint="it has to be there, and to be JSON; paths start at the project's folder",
                )
            )  # fmt: skip
    return problems


def _names(
    project: Project,
    decision: ServiceDecision,
    foreign: Mapping[str, ForeignContainer],
    own: Mapping[str, ObservedContainer],
) -> list[Problem]:
    problems: list[Problem] = []
    for each in decision.decisions:
        if not isinstance(each, Create):
            continue
        service = decision.service
        name = project.container_name(service, each.number)
        if (other := foreign.get(name)) is not None:
            owner = f"project {other.project}" if other.project else "no project"
            problems.append(
                project.problem(
                    f"container name {name} is taken by container {other.id[:12]} of {owner}",
                    "services", service.name, "container_name",
                    hint=f"remove or rename that one, or give service {service.name} another name",
                )
            )  # fmt: skip
        elif name in own and own[name].service != service.name:
            problems.append(
                project.problem(
                    f"container name {name} is taken by service {own[name].service}",
                    "services", service.name, "container_name",
                )
            )  # fmt: skip
    return problems


def _health_conditions(project: Project, service: Service, observed: Observed) -> list[Problem]:
    problems = []
    for needed, dependency in service.depends_on.items():
        target = project.services.get(needed)
        if target is None or dependency.condition is not Condition.HEALTHY:
            continue
        if not dependency.required:  # told when it comes to it; its dependent starts all the same
            continue
        image = observed.images.get(image_of(project, target))
        check = target.healthcheck
        if check is not None and check.is_disabled:
            has_check = False
        elif check is not None and check.test:
            has_check = True
        else:
            has_check = image is None or image.has_healthcheck
        if not has_check:
            problems.append(
                project.problem(
                    f"{service.name} waits until {needed} is healthy, but {needed} has no"
                    " healthcheck",
                    "services", service.name, "depends_on", needed,
                    hint=f"add services.{needed}.healthcheck, or use condition: service_started",
                )
            )  # fmt: skip
    return problems


def _networks(project: Project, observed: Observed) -> list[Problem]:
    problems = []
    for key, network in project.networks.items():
        found = observed.networks.get(network.name)
        if network.external and found is None:
            problems.append(
                project.problem(
                    f"external network {network.name} doesn't exist", "networks", key,
                    hint=f"make it, or drop external: true so that {project.name} makes it",
                )
            )  # fmt: skip
        elif found is not None and not network.external and found.project not in ("", project.name):
            problems.append(
                project.problem(
                    f"network {network.name} belongs to project {found.project}", "networks", key,
                    hint="give it another name, or say external: true to share it",
                )
            )  # fmt: skip
        elif found is not None and found.project == project.name:
            users = [c.name for c in observed.foreign if network.name in c.networks]
            if users and changed_network(network, found):
                problems.append(
                    project.problem(
                        f"cannot recreate network {network.name}, which changed:"
                        f" {', '.join(users)} of other projects use it", "networks", key,
                        hint="disconnect them first",
                    )
                )  # fmt: skip
    return problems


def _volumes(project: Project, observed: Observed) -> list[Problem]:
    problems = []
    for key, volume in project.volumes.items():
        found = observed.volumes.get(volume.name)
        if volume.external:
            if found is None:
                problems.append(
                    project.problem(
                        f"external volume {volume.name} doesn't exist", "volumes", key,
                        hint=f"make it, or drop external: true so that {project.name} makes it",
                    )
                )  # fmt: skip
        elif found is not None and (cause := changed_volume(volume, found)):
            problems.append(
                project.problem(
                    f"cannot change volume {volume.name} ({cause}): that would destroy its data",
                    "volumes", key,
                    hint="give the new one another name, or remove the old one with down --volumes",
                )
            )  # fmt: skip
    return problems


def _ports(
    project: Project,
    observed: Observed,
    options: PlanOptions,
    decided: Sequence[ServiceDecision],
) -> list[Problem]:
    """Fixed host ports that two want, or that one has who keeps it."""
    holders: list[tuple[ObservedPort, str]] = [
        (port, f"container {container.name}")
        for container in observed.foreign
        for port in container.ports
    ]
    holders += [(port, "a process of this machine") for port in observed.taken_ports]
    known = {decision.service.name for decision in decided}
    holders += [
        (port, f"container {container.name}")
        for container in observed.containers
        if container.service not in known and container.is_running
        # An orphan that goes gives back its port before anything starts.
        if container.service in project.services or not options.remove_orphans
        for port in container.ports
    ]
    problems: list[Problem] = []
    for decision in decided:
        service = decision.service
        staying = [d for d in decision.decisions if isinstance(d, (Keep, Create, Recreate))]
        starting = [d for d in staying if not isinstance(d, Keep) or d.start_cause]
        for index, port in enumerate(service.ports):
            if len(port.host_ports) != 1 or not staying:
                continue
            wanted = ObservedPort(port.host_ip, port.host_ports[0], port.protocol)
            place = ("services", service.name, "ports", index)
            if is_open_to_all(service) and observed.is_ours:
                continue
            if len(staying) > 1 and not (shares_ports(service) and observed.is_ours):
                problems.append(
                    project.problem(
                        f"cannot publish port {wanted.port} for {len(staying)} containers",
                        *place,
                        hint="let the engine choose, or give a range: "
                        f'"{wanted.port}-{wanted.port + len(staying) - 1}:{port.target}", '
                        "or use pycompose's own engine, where they share it",
                    )
                )
                continue
            holder = next((who for held, who in holders if _clash(held, wanted)), "")
            if holder and starting:
                problems.append(_taken(project, port, holder, place))
            holders.append((wanted, f"service {service.name}"))
    return problems


def _taken(project: Project, port: Port, holder: str, place: tuple[str | int, ...]) -> Problem:
    return project.problem(
        f"cannot publish port {port.published}/{port.protocol}: {holder} has it",
        *place,
        hint="publish another port, or stop the other one",
    )


def _clash(one: ObservedPort, other: ObservedPort) -> bool:
    if (one.port, one.protocol) != (other.port, other.protocol):
        return False
    return one.ip == other.ip or one.ip in ANY_ADDRESS or other.ip in ANY_ADDRESS
