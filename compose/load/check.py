"""Rules that no schema can say: names that must exist, things that exclude each other. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from signal import Signals
from typing import TypeAlias

from compose.dataclass import dataclass
from compose.errors import Problem
from compose.graph import Edges, with_needed
from compose.load.defaults import shared_namespaces
from compose.load.nearest import nearest
from compose.load.short import is_windows_path
from compose.model import own
from compose.model.deploy import Resource
from compose.model.mount import FileReference, MountType
from compose.model.port import Port
from compose.model.project import Place, Project, dotted
from compose.model.resources import FileObject
from compose.model.service import Service

_Subnet: TypeAlias = IPv4Network | IPv6Network

# What engines take: host and port, path, tag, digest (or an id alone, which looks like a path).
_IMAGE = re.compile(
    r"(?:[\w.-]+(?::\d+)?/|\[[0-9a-fA-F:]+\](?::\d+)?/)?"
    r"[a-z0-9]+(?:(?:[._/]|__|-+)[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][\w.-]{0,127})?(?:@[\w+.-]+:[0-9a-fA-F]{32,})?",
    re.ASCII,
)
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Known:
    """All that the files declare, used or not, on or off."""

    project: Project
    off: Mapping[str, tuple[str, ...]]  # services that are off, and their profiles


def check_project(known: Known) -> list[Problem]:
    project = known.project
    problems: list[Problem] = []
    for service in project.services.values():
        problems.extend(_check_service(service, known))
    problems.extend(_check_resources(project))
    problems.extend(_check_cycles(project))
    return problems


def check_places(project: Project) -> list[Problem]:
    """Names that no engine takes, ports and addresses that are asked for twice, or that no network
    has. Such files can be read and printed; their containers can't all be made."""
    return [
        *_check_names(project),
        *_check_container_names(project),
        *_check_host_ports(project),
        *_check_addresses(project),
        *_check_targets(project),
        *_check_start_intervals(project),
    ]


def _check_own_extension(service: Service, project: Project) -> Iterator[Problem]:
    place: Place = ("services", service.name, own.KEY)
    if not isinstance(service.extensions.get(own.KEY, {}), dict):
        yield project.problem(f"{own.KEY} has to be a mapping", *place)
        return
    wishes = own.own_wishes(service)
    for key in wishes:
        if key not in ("reload", "files"):
            hint = "reload and files are what can be said here"
            yield project.problem(f'unknown key "{key}"', *place, key, hint=hint)
    if (files := wishes.get("files", own.IN_PLACE)) != own.IN_PLACE:
        hint = f"{own.IN_PLACE} is what can be said here"
        yield project.problem(f"cannot bring files {files!r}", *place, "files", hint=hint)
    wish = wishes.get("reload", "restart")
    known = {"restart", "signal", *(each.name for each in Signals)}
    if not isinstance(wish, str) or wish not in known:
        hint = "restart, signal (which is SIGHUP), or a signal's name"
        yield project.problem(f"cannot reload by {wish!r}", *place, "reload", hint=hint)


def _check_start_intervals(project: Project) -> Iterator[Problem]:
    for service in project.services.values():
        check = service.healthcheck
        if check is not None and check.start_interval and not check.start_period:
            yield project.problem(
                "start_interval says how often to ask during the start_period, and there is none",
                "services",
                service.name,
                "healthcheck",
                "start_interval",
                hint='add "start_period: 30s", or leave start_interval out',
            )


def _check_names(project: Project) -> Iterator[Problem]:
    """Often these hold a variable that isn't set here, or a template that Swarm alone fills in."""
    for service in project.services.values():
        place: Place = ("services", service.name)
        if service.image and not _is_image_name(service.image):
            lower = service.image.lower()
            yield project.problem(
                f'"{service.image}" can\'t be the name of an image',
                *place,
                "image",
                hint=f"write it in lower case: {lower}"
                if _is_image_name(lower)
                else "write [HOST[:PORT]/]NAME[:TAG], as in nginx:1.27",
            )
        for key, name in (("hostname", service.hostname), ("domainname", service.domainname)):
            if name and not _is_host_name(name):
                yield project.problem(
                    f'"{name}" can\'t be the name of a host',
                    *place,
                    key,
                    hint='names are made of letters, digits and "-", in parts of up to 63 '
                    'parted by "."',
                )
    for section, entries in (("networks", project.networks), ("volumes", project.volumes)):
        for key, entry in entries.items():
            if not entry.name:
                yield project.problem(
                    "the name is blank", section, key, "name", hint="name it, or remove this line"
                )


def _is_image_name(text: str) -> bool:
    return text.startswith("rootfs:") or _IMAGE.fullmatch(text) is not None


def _is_host_name(text: str) -> bool:
    labels = text.rstrip(".").split(".")
    return len(text) <= 253 and all(
        _LABEL.fullmatch(label) and len(label) <= 63 for label in labels
    )


def _check_targets(project: Project) -> Iterator[Problem]:
    for service in project.services.values():
        for index, mount in enumerate(service.volumes):
            place: Place = ("services", service.name, "volumes", index)
            for path in (mount.source, mount.target):
                if is_windows_path(path) or (mount.type is MountType.NPIPE and path):
                    yield project.problem(
                        f"{path} is a path of Windows: containers here run on Linux",
                        *place,
                        hint='write the path as Linux has it, as in "./data" or "/mnt/c/data"',
                    )
                    break
            else:
                if mount.target and not mount.target.startswith("/"):
                    yield project.problem(
                        f'"{mount.target}" isn\'t an absolute path in the container',
                        *place,
                        hint=f'write it as "/{mount.target}"',
                    )
                if mount.bind and mount.bind.selinux and mount.bind.recursive:
                    yield project.problem(
                        "a bind that is relabelled can't say how deep it goes",
                        *place,
                        "bind",
                        "recursive",
                        hint="remove recursive, or selinux",
                    )


def _check_service(service: Service, known: Known) -> Iterator[Problem]:
    project = known.project
    place: Place = ("services", service.name)
    if not service.image and service.build is None and service.provider is None:
        if (*place, "image") in project.positions:
            yield project.problem("the image is empty", *place, "image", hint="name an image")
        else:
            yield project.problem(
                "nothing says what the containers are made from",
                *place,
                hint='add "image:", as in image: rootfs:/ or image: nginx, or "build:"',
            )
    yield from _check_own_extension(service, project)
    yield from _check_networks(service, project)
    yield from _check_references(service, known)
    yield from _check_files(service, project)
    yield from _check_mounts(service, project)
    yield from _check_limits(service, project)
    if service.container_name and service.replicas > 1:
        yield project.problem(
            f"{service.replicas} replicas can't all be named {service.container_name}",
            *place,
            "container_name",
            hint="remove container_name, or run one replica",
        )
    build = service.build
    if build and build.platforms and service.platform and service.platform not in build.platforms:
        yield project.problem(
            f"the platforms of the build lack {service.platform}, which the service runs on",
            *place,
            "build",
            "platforms",
            hint=f'add "{service.platform}" to the list',
        )


def _check_networks(service: Service, project: Project) -> Iterator[Problem]:
    place: Place = ("services", service.name)
    if service.network_mode and service.networks:
        yield project.problem(
            '"network_mode" and "networks" exclude each other',
            *place,
            "network_mode",
            hint="keep one of the two",
        )
    for key in service.networks:
        if key not in project.networks:
            yield _undefined(project, "network", key, project.networks, *place, "networks", key)


def _check_addresses(project: Project) -> Iterator[Problem]:
    """Addresses that services ask for: inside a subnet of the network, and each asked for once."""
    owners: dict[tuple[str, str], Place] = {}
    for service in project.services.values():
        for key, attachment in service.networks.items():
            network = project.networks.get(key)
            if network is None:
                continue
            subnets = [_subnet(pool.subnet) for pool in network.ipam.config]
            for attribute in ("ipv4_address", "ipv6_address"):
                address: str = getattr(attachment, attribute)
                if not _is_address(address):
                    continue
                place: Place = ("services", service.name, "networks", key, attribute)
                if not network.external and None not in subnets:
                    yield from _outside(project, address, subnets, network.key, place)
                owner = owners.setdefault((key, address), place)
                if owner != place:
                    yield project.problem(
                        f"the address {address} is taken by the service {owner[1]} at "
                        f"{project.at(*owner)}",
                        *place,
                        hint="choose another address for one of the two",
                    )


def _outside(
    project: Project, address: str, subnets: Sequence[_Subnet | None], key: str, place: Place
) -> Iterator[Problem]:
    if any(subnet is not None and ip_address(address) in subnet for subnet in subnets):
        return
    if subnets:
        shown = ", ".join(str(subnet) for subnet in subnets)
        what = f'{address} lies outside of the network "{key}", which is {shown}'
        yield project.problem(what, *place, hint="choose an address of that subnet")
    else:
        yield project.problem(
            f'the network "{key}" has no subnet of its own choice, so no address can be asked for',
            *place,
            hint=f'give the network "{key}" an "ipam:" with a "subnet:"',
        )


def _subnet(text: str) -> _Subnet | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _check_references(service: Service, known: Known) -> Iterator[Problem]:
    """Other services that this one names."""
    place: Place = ("services", service.name)
    named: dict[str, Place] = {}
    for attribute, name in shared_namespaces(service):
        named[name] = (*place, attribute)
    for index, link in enumerate(service.links):
        named[link.partition(":")[0]] = (*place, "links", index)
    for index, source in enumerate(service.volumes_from):
        if not source.startswith("container:"):
            named[source.partition(":")[0]] = (*place, "volumes_from", index)
    contexts = service.build.additional_contexts if service.build else {}
    for key, context in contexts.items():
        if context.startswith("service:"):
            other = context.removeprefix("service:")
            named[other] = (*place, "build", "additional_contexts", key)
            target = known.project.services.get(other)
            if target is not None and target.build is None:
                yield known.project.problem(
                    f"the service \"{other}\" isn't built here, so it can't be a build context",
                    *named[other],
                    hint=f'give "{other}" a "build:", or name another service',
                )
            if service.name in with_needed(_contexts(known.project), [other]):
                yield known.project.problem(
                    f'the image of "{service.name}" would be built on itself',
                    *named[other],
                    hint="name a context that isn't made of this service's image",
                )
    for name, dependency in service.depends_on.items():
        if dependency.required or name not in known.off:
            named.setdefault(name, (*place, "depends_on", name))
    for name, where in named.items():
        if name not in known.project.services:
            yield _missing_service(name, where, known)
    dependency_on_self = service.depends_on.get(service.name)
    if dependency_on_self is not None:
        yield known.project.problem(
            "a service can't depend on itself", *named[service.name], hint="remove this line"
        )


def _contexts(project: Project) -> Edges:
    return {
        name: service.build.context_services if service.build else ()
        for name, service in project.services.items()
    }


def _missing_service(name: str, where: Place, known: Known) -> Problem:
    project = known.project
    if name in known.off:
        profiles = ", ".join(known.off[name])
        first = known.off[name][0] if known.off[name] else ""
        return project.problem(
            f'the service "{name}" is off: it runs with the profile {profiles} only',
            *where,
            hint=f"turn it on with --profile {first}, or write it as a dependency with "
            '"required: false"',
        )
    return _undefined(project, "service", name, [*project.services, *known.off], *where)


def _undefined(
    project: Project, kind: str, name: str, known: Iterable[str], *place: str | int
) -> Problem:
    close = nearest(name, known)
    hint = f'did you mean "{close}"?' if close else f'define it at the top level: "{kind}s:"'
    if kind == "service" and not close:
        hint = f"the services are: {_listed(known)}"
    return project.problem(f'there is no {kind} "{name}"', *place, hint=hint)


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:12]) + (" ..." if len(shown) > 12 else "")


def _check_files(service: Service, project: Project) -> Iterator[Problem]:
    place: Place = ("services", service.name)

    def check(
        kind: str, references: tuple[FileReference, ...], known: Iterable[str], *where: str
    ) -> Iterator[Problem]:
        for index, reference in enumerate(references):
            if reference.source and reference.source not in known:
                yield _undefined(project, kind, reference.source, known, *place, *where, index)

    yield from check("config", service.configs, project.configs, "configs")
    yield from check("secret", service.secrets, project.secrets, "secrets")
    if service.build:
        yield from check("secret", service.build.secrets, project.secrets, "build", "secrets")
    for key in service.models:
        if key not in project.models:
            yield _undefined(project, "model", key, project.models, *place, "models", key)


def _check_mounts(service: Service, project: Project) -> Iterator[Problem]:
    place: Place = ("services", service.name)
    taken: dict[str, Place] = {}
    for index, mount in enumerate(service.volumes):
        where: Place = (*place, "volumes", index)
        if mount.type is MountType.VOLUME and mount.source and mount.source not in project.volumes:
            problem = _undefined(project, "volume", mount.source, project.volumes, *where)
            yield problem
        yield from _once(project, mount.target, where, taken)
    for index, entry in enumerate(service.tmpfs):
        yield from _once(project, entry.partition(":")[0], (*place, "tmpfs", index), taken)
    for index, config in enumerate(service.configs):
        yield from _once(project, config.config_path(), (*place, "configs", index), taken)
    for index, secret in enumerate(service.secrets):
        yield from _once(project, secret.secret_path(), (*place, "secrets", index), taken)


def _once(
    project: Project, target: str, where: Place, taken: dict[str, Place]
) -> Iterator[Problem]:
    if target in taken:
        first = project.at(*taken[target])
        yield project.problem(
            f"something else is mounted on {target} already: {dotted(taken[target][2:])}"
            + (f" at {first}" if first else ""),
            *where,
            hint="choose another target for one of the two",
        )
    elif target:
        taken[target] = where


def _check_limits(service: Service, project: Project) -> Iterator[Problem]:
    """The old attributes and those below `deploy` must agree."""
    deploy = service.deploy
    if deploy is None:
        return
    limits = deploy.limits or Resource()
    reservations = deploy.reservations or Resource()
    resources = ("deploy", "resources")
    pairs: list[tuple[str, float | None, tuple[str, ...], float | None]] = [
        ("scale", service.scale, ("deploy", "replicas"), deploy.replicas),
        ("cpus", service.cpus, (*resources, "limits", "cpus"), limits.cpus),
        (
            "mem_limit",
            service.mem_limit,
            (*resources, "limits", "memory"),
            limits.memory,
        ),
        ("pids_limit", service.pids_limit, (*resources, "limits", "pids"), limits.pids),
        (
            "mem_reservation",
            service.mem_reservation,
            (*resources, "reservations", "memory"),
            reservations.memory,
        ),
    ]
    for name, value, other, other_value in pairs:
        unset = (None,) if name == "scale" else (None, 0)
        if value not in unset and other_value not in unset and value != other_value:
            yield project.problem(
                f"{name} and {'.'.join(other)} disagree: {value:g} and {other_value:g}",
                "services",
                service.name,
                name,
                hint="keep one of the two, or make them equal",
            )


def _check_container_names(project: Project) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    for service in project.services.values():
        name = service.container_name
        if not name:
            continue
        if name in owners:
            yield project.problem(
                f'the container name {name} is taken by the service "{owners[name]}"',
                "services",
                service.name,
                "container_name",
                hint="choose another name for one of the two",
            )
        owners.setdefault(name, service.name)


def _check_host_ports(project: Project) -> Iterator[Problem]:
    """One port of the host can lead to one service."""
    taken: dict[tuple[str, int], list[tuple[Port, Place]]] = {}
    for service in project.services.values():
        for index, port in enumerate(service.ports):
            place: Place = ("services", service.name, "ports", index)
            if len(port.host_ports) != 1 or port.host_ports[0] == 0:
                continue  # the engine finds a free one
            number = port.host_ports[0]
            for other, where in taken.get((port.protocol, number), ()):
                if _overlap(port.host_ip, other.host_ip):
                    yield project.problem(
                        f"host port {number}/{port.protocol} is published twice: also by "
                        f"{dotted(where)} at {project.at(*where)}",
                        *place,
                        hint="choose another host port for one of the two",
                    )
                    break
            taken.setdefault((port.protocol, number), []).append((port, place))


def _overlap(one: str, other: str) -> bool:
    everywhere = ("", "0.0.0.0", "::")
    return one == other or one in everywhere or other in everywhere


def _check_resources(project: Project) -> Iterator[Problem]:
    for volume in project.volumes.values():
        if volume.external and (volume.driver or volume.driver_opts or volume.labels):
            yield _external_extra(project, "volumes", volume.key)
    for config in project.configs.values():
        yield from _check_source(project, "configs", config, ("file", "environment", "content"))
    for secret in project.secrets.values():
        yield from _check_source(project, "secrets", secret, ("file", "environment"))


def _external_extra(project: Project, section: str, key: str) -> Problem:
    return project.problem(
        "what is external exists already: it can have a name here, but nothing else",
        section,
        key,
        hint='remove the other attributes, or "external"',
    )


def _check_source(
    project: Project, section: str, item: FileObject, sources: tuple[str, ...]
) -> Iterator[Problem]:
    given = [
        name
        for name, value in zip(
            ("file", "environment", "content"),
            (item.file, item.environment, item.inline),
            strict=True,
        )
        if value or (name == "content" and (section, item.key, "content") in project.positions)
    ]
    place = (section, item.key)
    if item.external:
        if given:
            yield _external_extra(project, section, item.key)
    elif len(given) > 1:
        both = " and ".join(f'"{name}"' for name in given)
        yield project.problem(f"{both} exclude each other", *place, hint="keep one of them")
    elif not given and not item.driver:
        choices = " or ".join(f'"{name}:"' for name in sources)
        yield project.problem(
            "nothing says what it holds", *place, hint=f'add {choices}, or "external: true"'
        )


def _check_cycles(project: Project) -> Iterator[Problem]:
    """Each circle of dependencies once, with the place of every step."""
    state: dict[str, int] = {}  # 1: being walked, 2: done

    for start in project.services:
        if start in state:
            continue
        # A path of (service, its dependencies yet to look at); no recursion: chains may be long.
        trail: list[tuple[str, Iterator[str]]] = [(start, _dependencies(project, start))]
        state[start] = 1
        while trail:
            name, rest = trail[-1]
            step = next(rest, None)
            if step is None:
                state[name] = 2
                trail.pop()
            elif state.get(step) == 1:
                names = [passed for passed, _ in trail]
                yield _cycle(project, names[names.index(step) :])
            elif step not in state:
                state[step] = 1
                trail.append((step, _dependencies(project, step)))


def _dependencies(project: Project, name: str) -> Iterator[str]:
    return (
        other
        for other in project.services[name].depends_on
        if other in project.services and other != name
    )


def _cycle(project: Project, names: list[str]) -> Problem:
    steps = []
    for name, after in zip(names, [*names[1:], names[0]], strict=True):
        at = _edge_place(project, name, after)
        steps.append(f"{name} needs {after} ({project.at(*at)})")
    return project.problem(
        f"services need each other in a circle: {', '.join(steps)}",
        *_edge_place(project, names[0], names[-1] if len(names) == 1 else names[1]),
        hint="remove one of these dependencies",
    )


def _edge_place(project: Project, name: str, after: str) -> Place:
    """Where it is said that `name` needs `after`."""
    service = project.services[name]
    written: Place = ("services", name, "depends_on", after)
    if written in project.positions:
        return written
    for index, link in enumerate(service.links):
        if link.partition(":")[0] == after:
            return ("services", name, "links", index)
    for index, source in enumerate(service.volumes_from):
        if source.partition(":")[0] == after:
            return ("services", name, "volumes_from", index)
    for attribute, other in shared_namespaces(service):
        if other == after:
            return ("services", name, attribute)
    return ("services", name)
