"""Engine API -> Observed: one snapshot, taken with one list call a kind of thing."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from compose.client.address import UnixAddress
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.errors import ApiError, NotFound
from compose.client.images import ImageDetails
from compose.client.networks import NetworkDetails
from compose.client.times import parse_time
from compose.client.volumes import VolumeDetails
from compose.model.mount import MountType
from compose.model.project import Project
from compose.plan import names
from compose.plan.api_socket import ApiSocket
from compose.plan.container import seccomp_file
from compose.plan.images import image_of, mounted_image
from compose.plan.observed import (
    ForeignContainer,
    Observed,
    ObservedContainer,
    ObservedImage,
    ObservedMount,
    ObservedNetwork,
    ObservedPort,
    ObservedVolume,
)
from compose.tasks import Together


async def observe(engine: Engine, project_name: str, project: Project | None = None) -> Observed:
    """All that a plan for this project may know. Without its files no images are looked at."""
    references = sorted(_images(project)) if project else []
    async with Together() as group:
        listing = group.create_task(engine.containers.list(all=True))
        networks = group.create_task(engine.networks.list())
        volumes = group.create_task(engine.volumes.list())
        has_secrets = project and any(service.secrets for service in project.services.values())
        engine_id = group.create_task(engine.id()) if has_secrets else None
        images = {
            reference: group.create_task(_find_image(engine, reference)) for reference in references
        }
    containers = listing.result()
    own = [row for row in containers if row.labels.get(names.PROJECT) == project_name]
    foreign = [row for row in containers if row.labels.get(names.PROJECT) != project_name]
    limits = await _limits(engine, own) if engine.is_docker and project else {}
    found = [replace(observed_container(row), limits=limits.get(row.id)) for row in own]
    return Observed(
        containers=tuple(sorted(found, key=lambda c: (c.service, c.number))),
        foreign=tuple(_foreign(row) for row in foreign),
        networks={network.name: _network(network) for network in networks.result()},
        volumes={volume.name: _volume(volume) for volume in volumes.result()},
        images={
            reference: _image(image)
            for reference, found in images.items()
            if (image := found.result()) is not None
        },
        missing_paths=_missing_paths(engine, project) if project else frozenset(),
        taken_ports=_taken_ports(project, containers)
        if project and engine.is_ours
        else frozenset(),
        profiles=_seccomp_profiles(project) if project else {},
        now=int(time.time()),
        engine_id=engine_id.result() if engine_id else "",
        is_ours=engine.is_ours,
        api_socket=await _api_socket(engine, project) if project else None,
    )


async def _limits(
    engine: Engine, rows: Iterable[ContainerSummary]
) -> dict[str, Mapping[str, object]]:
    """HostConfig by container, of those that are there still."""

    async def look(container: str) -> Mapping[str, object] | None:
        try:
            document = (await engine.containers.inspect(container)).document
        except NotFound:
            return None
        host = document.get("HostConfig")
        return host if isinstance(host, Mapping) else None

    async with Together() as group:
        looks = {row.id: group.create_task(look(row.id)) for row in rows}
    return {id: host for id, each in looks.items() if (host := each.result()) is not None}


async def _api_socket(engine: Engine, project: Project) -> ApiSocket | None:
    """The engine's own path of it is known where that is how it was reached."""
    if not any(service.use_api_socket for service in project.services.values()):
        return None
    if isinstance(engine.address, UnixAddress):
        path = os.path.abspath(engine.address.path)
    else:
        path = "/run/pycompose/engine.sock" if engine.is_ours else "/var/run/docker.sock"
    return ApiSocket(path, await engine.credentials.config())


def observed_container(row: ContainerSummary) -> ObservedContainer:
    labels = row.labels
    return ObservedContainer(
        id=row.id,
        name=row.name,
        service=labels.get(names.SERVICE, ""),
        number=names.number_of(labels),
        state=row.state,
        one_off=labels.get(names.ONE_OFF) == "True",
        exit_code=row.exit_code,
        health=row.health,
        config_hash=labels.get(names.CONFIG_HASH, ""),
        record=labels.get(names.SERVICE_RECORD, ""),
        image_id=labels.get(names.IMAGE) or row.image_id,
        networks=row.networks,
        mounts=tuple(
            ObservedMount(mount.kind, mount.name, mount.destination) for mount in row.mounts
        ),
        depends_on=names.parse_dependencies(labels.get(names.DEPENDS_ON, "")),
        ports=_ports(row),
        created=row.created,
        edited=labels.get(names.EDITED, ""),
        shares_ports=labels.get(names.SHARED_PORTS) == "true",
    )


def _images(project: Project) -> set[str]:
    found = {
        image_of(project, service)
        for service in (*project.services.values(), *project.bases.values())
    }
    found |= {
        mounted_image(project, mount)
        for service in project.services.values()
        for mount in service.volumes
        if mount.type is MountType.IMAGE
    }
    return found


async def _find_image(engine: Engine, reference: str) -> ImageDetails | None:
    try:
        return await engine.images.find(reference)
    except ApiError as error:
        if reference.startswith("rootfs:"):
            return None  # no other engine than ours understands such a name
        raise error


def _image(image: ImageDetails) -> ObservedImage:
    return ObservedImage(
        id=image.id,
        volumes=image.volumes,
        has_healthcheck=image.has_healthcheck,
        tagged_at=parse_time(image.tagged) // 1_000_000_000,
    )


def _foreign(row: ContainerSummary) -> ForeignContainer:
    return ForeignContainer(
        id=row.id,
        name=row.name,
        project=row.labels.get(names.PROJECT, ""),
        ports=_ports(row),
        networks=frozenset(row.networks),
    )


def _ports(row: ContainerSummary) -> tuple[ObservedPort, ...]:
    return tuple(
        ObservedPort(port.ip, port.public, port.protocol) for port in row.ports if port.public
    )


def _network(network: NetworkDetails) -> ObservedNetwork:
    labels = network.labels
    return ObservedNetwork(
        id=network.id,
        name=network.name,
        project=labels.get(names.PROJECT, ""),
        key=labels.get(names.NETWORK, ""),
        config_hash=labels.get(names.CONFIG_HASH, ""),
        record=labels.get(names.NETWORK_RECORD, ""),
    )


def _volume(volume: VolumeDetails) -> ObservedVolume:
    labels = volume.labels
    return ObservedVolume(
        name=volume.name,
        project=labels.get(names.PROJECT, ""),
        key=labels.get(names.VOLUME, ""),
        config_hash=labels.get(names.CONFIG_HASH, ""),
        record=labels.get(names.VOLUME_RECORD, ""),
        driver=volume.driver,
    )


def _missing_paths(engine: Engine, project: Project) -> frozenset[str]:
    """Only where the engine sees our files: behind a unix socket it does, most likely."""
    if not isinstance(engine.address, UnixAddress):
        return frozenset()
    sources = {
        mount.source
        for service in project.services.values()
        for mount in service.volumes
        if mount.type is MountType.BIND
    }
    return frozenset(source for source in sources if not os.path.lexists(source))


def _taken_ports(project: Project, rows: Iterable[ContainerSummary]) -> frozenset[ObservedPort]:
    """Ports that the project wants and that no container has, but that can't be bound. Only where
    the engine is ours, which publishes on this machine."""
    held = {(port.port, port.protocol) for row in rows for port in _ports(row)}
    wanted = {
        ObservedPort(port.host_ip, port.host_ports[0], port.protocol)
        for service in project.services.values()
        for port in service.ports
        if len(port.host_ports) == 1
    }
    return frozenset(
        port for port in wanted if (port.port, port.protocol) not in held and is_taken(port)
    )


def is_taken(port: ObservedPort) -> bool:
    kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}.get(port.protocol)
    if kind is None:
        return False
    family = socket.AF_INET6 if ":" in port.ip else socket.AF_INET
    with socket.socket(family, kind) as probe:
        try:
            if kind == socket.SOCK_STREAM:
                # Connections of a server that has just ended (TIME_WAIT) are in nobody's way.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((port.ip or "0.0.0.0", port.port))
            if kind == socket.SOCK_STREAM:
                probe.listen(0)
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _seccomp_profiles(project: Project) -> dict[str, str]:
    """Compact JSON of each profile that can be read; preflight names the others."""
    return {path: profile for path in _profile_paths(project) if (profile := _read_json(path))}


def _profile_paths(project: Project) -> Iterable[str]:
    for service in project.services.values():
        for option in service.security_opt:
            if path := seccomp_file(project, option):
                yield path


def _read_json(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return json.dumps(json.load(file), separators=(",", ":"))
    except (OSError, ValueError):
        return ""
