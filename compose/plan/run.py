"""pure: a one-off container of a service: the service as `run` changes it, and what is created."""

from __future__ import annotations

import posixpath
import shlex
from dataclasses import replace

from compose.dataclass import dataclass
from compose.errors import UsageError
from compose.load.short import BadSyntax, parse_mount, parse_port
from compose.model.mount import BindOptions, Mount, MountType
from compose.model.port import Port
from compose.model.project import Project
from compose.model.service import Service
from compose.plan import names
from compose.plan.actions import ContainerRef, CreateContainer, Existing
from compose.plan.container import Replica, make_creation
from compose.plan.images import image_of
from compose.plan.observed import Observed
from compose.plan.record import config_hash


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What `run` asks for besides the service. Texts are in the short syntaxes of Compose files."""

    service: str
    command: tuple[str, ...] | None = None
    entrypoint: str | None = None
    environment: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    name: str = ""
    labels: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    publish: tuple[str, ...] = ()
    service_ports: bool = False
    use_aliases: bool = False
    no_deps: bool = False
    build: str = ""  # "always": also the images that are there
    pull: str = ""  # always, missing, never; "": as the service says
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    remove_orphans: bool = False
    ignore_orphans: bool = False
    tty: bool = False
    stdin: bool = False  # it has one
    attached: bool = True  # and it is ours
    remove: bool = False
    directory: str = "/"  # what relative paths of `volumes` start from


def one_off_service(service: Service, options: RunOptions) -> Service:
    """Raises UsageError for a port or volume that can't be read."""
    command, entrypoint = options.command, service.entrypoint
    if options.entrypoint is not None:
        entrypoint = tuple(shlex.split(options.entrypoint))
        command = command or ()
    elif command is None:
        command = service.command
    ports = service.ports if options.service_ports else ()
    return replace(
        service,
        command=command,
        entrypoint=entrypoint,
        environment={**service.environment, **dict(_pair(text) for text in options.environment)},
        labels={**service.labels, **dict(_pair(text) for text in options.labels)},
        user=options.user or service.user,
        cap_add=tuple(dict.fromkeys((*service.cap_add, *options.cap_add))),
        cap_drop=tuple(dict.fromkeys((*service.cap_drop, *options.cap_drop))),
        working_dir=options.working_dir or service.working_dir,
        ports=(*ports, *(port for text in options.publish for port in _ports(text))),
        volumes=_mounts(service, options),
        container_name="",
        restart="",
        deploy=replace(service.deploy, restart_policy=None) if service.deploy else None,
        tty=options.tty,
        stdin_open=options.stdin,
        scale=None,
    )


def make_one_off(
    project: Project, observed: Observed, options: RunOptions, slug: str
) -> CreateContainer:
    """`slug`: twelve hex digits that nobody else has."""
    declared = project.services[options.service]
    service = one_off_service(declared, options)
    name = options.name or project.joined(service.name, "run", slug)
    image = observed.images.get(image_of(project, service))
    action = make_creation(
        project,
        service,
        Replica(
            number=1,
            name=name,
            created_as=name,
            image_id=image.id if image else "",
            record="",
            config_hash=config_hash(service.to_document()),
            image_volumes=image.volumes if image else (),
            inherited={},
            replaces="",
            seccomp_profiles=observed.profiles,
            parents=lambda parent: running_container(observed, parent),
            places_files=observed.is_ours,
            api_socket=observed.api_socket,
        ),
    )
    is_ours = options.stdin and options.attached
    labels = {**_labels(action), names.ONE_OFF: "True", names.SLUG: slug}
    for label in (names.NUMBER, names.SERVICE_RECORD):
        labels.pop(label, None)
    body = {**action.body, "Labels": labels, "StdinOnce": is_ours}
    body |= {"AttachStdin": is_ours}
    host = body["HostConfig"]
    assert isinstance(host, dict)
    body["HostConfig"] = {**host, "AutoRemove": options.remove}
    endpoints = action.endpoints
    if not options.use_aliases:
        endpoints = {
            network: {key: value for key, value in endpoint.items() if key != "Aliases"}
            for network, endpoint in endpoints.items()
        }
    return replace(action, slot=name, body=body, endpoints=endpoints)


def running_container(observed: Observed, service: str) -> ContainerRef:
    """The first one that runs. Raises UsageError where none does."""
    for container in observed.containers:
        if container.service == service and container.is_running and not container.one_off:
            return Existing(container.id, container.name)
    raise UsageError(f"service {service!r} is not running\n  hint: run without --no-deps")


def _labels(action: CreateContainer) -> dict[str, object]:
    labels = action.body["Labels"]
    assert isinstance(labels, dict)
    return labels


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _ports(text: str) -> list[Port]:
    try:
        return [
            Port(short.target, short.published, short.protocol, short.host_ip)
            for short in parse_port(text)
        ]
    except BadSyntax as error:
        raise UsageError(f"--publish {text}: {error}\n  hint: {error.hint}") from error


def _mounts(service: Service, options: RunOptions) -> tuple[Mount, ...]:
    """The service's own, but for targets that are given anew."""
    added = tuple(_mount(text, options.directory) for text in options.volumes)
    targets = {mount.target for mount in added}
    return (*(mount for mount in service.volumes if mount.target not in targets), *added)


def _mount(text: str, directory: str) -> Mount:
    try:
        short = parse_mount(text)
    except BadSyntax as error:
        raise UsageError(f"--volume {text}: {error}\n  hint: {error.hint}") from error
    if not short.is_bind:
        return Mount(MountType.VOLUME, short.target, short.source, short.read_only)
    source = posixpath.normpath(posixpath.join(directory, short.source))
    return Mount(MountType.BIND, short.target, source, short.read_only, bind=BindOptions())
