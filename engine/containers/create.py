"""A create request becomes a record: image and request merged, mounts decided, volumes made.

Write-ahead: the folder and the names of the volumes first, config.json last. What a crash leaves
before that is no container, and the next daemon clears it away.
"""

import asyncio
import logging
import posixpath
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import ParamSpec, TypeVar

from engine.containers import (
    checks,
    contents,
    health,
    launch_request,
    legacy_links,
    limits,
    mount_sources,
    mounts,
    network_files,
    spec,
)
from engine.containers.machine import host_devices, with_block_devices
from engine.containers.model import (
    Attachment,
    ContainerConfig,
    CreateRequest,
    EndpointSettings,
    HealthCheck,
    HostConfig,
    LogConfig,
    MountPoint,
    PlacedFile,
    Record,
)
from engine.containers.parts import Parts
from engine.containers.store import HOSTNAME, HOSTS, RESOLV_CONF, Store
from engine.errors import EngineError, Forbidden, InvalidRequest, NotFound, Unsupported
from engine.ids import new_id
from engine.images.model import Image, unlike
from engine.oci.image_config import ImageConfig
from engine.oci.platform import parse_platform
from engine.settings import ContainerDefaults
from engine.volumes.model import ANONYMOUS_LABEL

log = logging.getLogger(__name__)

Item = TypeVar("Item")
P = ParamSpec("P")


async def create_container(
    parts: Parts, request: CreateRequest, name: str
) -> tuple[Record, tuple[str, ...]]:
    """The new container's record, on disk, and warnings."""
    logged = with_usual_log(request.host.log_config, parts.defaults)
    if logged != request.host.log_config:
        request = replace(request, host=replace(request.host, log_config=logged))
    warnings = check(parts, request)
    fitting, lacking = limits.fitted(request.host, unified=parts.hierarchy.is_v2)
    if fitting is not request.host:
        request = replace(request, host=fitting)
    warnings += lacking
    image = parts.images.resolve(request.config.image)
    if request.platform:
        wanted = parse_platform(request.platform, parts.images.platform)
        if refusal := unlike(image, request.config.image, wanted):
            raise NotFound(refusal)
    host = with_defaults(request.host, parts.machine, unified=parts.hierarchy.is_v2)
    container_id = parts.spawner.take_id() or new_id()
    config = merged_config(request.config, image.config)
    config = replace(config, hostname=_hostname(parts, request, container_id))
    command = (*(config.entrypoint or ()), *(config.cmd or ()))
    if not command:
        raise InvalidRequest("no command specified")
    host = _of_others(parts, host)
    points = _mounts(parts, request, image)
    contents.check(request.files, points)
    folder = parts.store.folder(container_id)
    has_log = host.log_config.driver != "none"
    record = Record(
        id=container_id,
        name=name,
        created=time.time_ns(),
        config=config,
        host=host,
        image_id=image.id,
        path=command[0],
        args=command[1:],
        mounts=points,
        attachments=attachments(request),
        log_path=f"{folder}/{container_id}-json.log" if has_log else "",
        hostname_path=f"{folder}/{HOSTNAME}",
        hosts_path=f"{folder}/{HOSTS}",
        resolv_conf_path=f"{folder}/{RESOLV_CONF}",
        files=tuple(request.files),
    )
    # Everything that can be refused is refused before anything is made.
    for attachment in record.attachments:
        _check_wishes(parts, attachment)
    spec.capability_names(host, parts.machine)
    spec.seccomp_filter(host, parts.machine)
    warnings += spec.seccomp_warnings(host)
    spec.resources(with_block_devices(host), host_devices(host))
    for point in points:
        if point.type == "bind" and point.from_mounts:
            mount_sources.require_source(point)
    return await _make(parts, request, image, record), warnings


async def _make(parts: Parts, request: CreateRequest, image: Image, record: Record) -> Record:
    store = parts.store
    # Those of other containers (volumes from) don't go with this one if it never is.
    anonymous = [
        point.name
        for point in record.mounts
        if point.anonymous and not _is_there(parts, point.name)
    ]
    made: list[str] = []
    try:
        if all(point.type != "volume" for point in record.mounts):
            await _begin_and_commit(parts, record, request.files)
            _require_image(parts, request, image)
            return record
        points = []
        async with parts.images.held():
            await _to_the_end(_begin, store, record, anonymous, request.files)
            for point in record.mounts:
                points.append(await _with_volume(parts, request, image, point, made))
        record = replace(record, mounts=tuple(points))
        await _to_the_end(store.commit, record)
        _require_image(parts, request, image)
    except BaseException:
        # First of all: a container whose volumes are gone must not be found by the next daemon.
        store.forget(record.id)
        await parts.spawner.give_up(record.id)
        for volume in made:
            await parts.volumes.remove(volume, force=True, users=lambda _: ())
        store.clear(record.id)
        raise
    return record


def _is_there(parts: Parts, volume: str) -> bool:
    try:
        parts.volumes.get(volume)
    except NotFound:
        return False
    return True


def _require_image(parts: Parts, request: CreateRequest, image: Image) -> None:
    """Somebody may have removed it meanwhile. From now on this container is one of its users:
    nothing is awaited until it is known as one."""
    if not parts.images.is_here(image):
        raise NotFound(f"No such image: {request.config.image}")


def look_ahead(parts: Parts, record: Record) -> None:
    """Mostly a start follows: until then its spare, if it has one, can build its root."""
    if not parts.spawner.has_spare(record.id):
        return
    try:
        asked = launch_request.request_ahead(parts, record)
    except EngineError as error:
        log.info("nothing is done ahead for container %s: %s", record.id, error)
        return
    if asked is not None:
        parts.spawner.ahead(asked, record)


async def _begin_and_commit(
    parts: Parts, record: Record, files: Mapping[PlacedFile, bytes]
) -> None:
    """It exists on return, also for the next daemon. To outlive a crash of the machine, it waits
    for the disk: as long as a start takes, so that goes on meanwhile."""
    store = parts.store
    loop = asyncio.get_running_loop()
    committed: asyncio.Future[object] = loop.create_future()

    def write() -> None:
        _begin(store, record, (), files)
        store.commit(record, durable=False)
        loop.call_soon_threadsafe(committed.set_result, None)
        store.sync_config(record.id)

    def conclude(done: asyncio.Future[object]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is None:
            return
        if committed.done():
            log.error("container %s would not outlive a crash of the machine: %s", record.id, error)
        else:
            committed.set_exception(error)

    writing: asyncio.Future[object] = loop.run_in_executor(None, write)
    writing.add_done_callback(conclude)
    await _written(writing, committed)


def _begin(
    store: Store, record: Record, volumes: Sequence[str], files: Mapping[PlacedFile, bytes]
) -> None:
    folder = store.begin(record.id, volumes)
    if files:
        contents.write(folder, list(files.values()))


async def _to_the_end(write: Callable[P, object], *arguments: P.args, **named: P.kwargs) -> None:
    """In a thread: making folders waits for the disk."""
    writing = asyncio.ensure_future(asyncio.to_thread(write, *arguments, **named))
    await _written(writing, writing)


async def _written(writing: asyncio.Future[object], enough: asyncio.Future[object]) -> None:
    """Until `enough`; where a daemon that stops cuts it short, until all is: the thread goes on and
    would write into what is being cleared away."""
    try:
        await asyncio.shield(enough)
    except asyncio.CancelledError:
        await asyncio.wait([writing])
        raise


async def _with_volume(
    parts: Parts, request: CreateRequest, image: Image, point: MountPoint, made: list[str]
) -> MountPoint:
    """`made` gets the name of a volume that didn't exist before."""
    if point.type != "volume":
        return point
    try:
        volume = parts.volumes.get(point.name)
    except NotFound:
        wish = next(
            (wish for wish in request.host.mounts if wish.target == point.destination), None
        )
        labels: Mapping[str, str] = dict(wish.volume_labels) if wish is not None else {}
        if point.anonymous:
            labels = {**labels, ANONYMOUS_LABEL: ""}
        volume = await parts.volumes.create(
            point.name,
            driver=point.driver,
            options=dict(wish.volume_driver_options) if wish is not None else {},
            labels=labels,
        )
        made.append(volume.name)
        parts.events.publish("volume", "create", volume.name, {"driver": volume.driver})
    if not point.no_copy:
        layers = parts.images.root_layers(image)
        await parts.volumes.copy_up(volume, layers, point.destination, part=point.subpath)
    return replace(point, source=volume.mountpoint)


def check(parts: Parts, request: CreateRequest) -> tuple[str, ...]:
    machine = parts.machine
    checks.check_request(request, cpus=machine.cpus, memory_nodes=machine.memory_nodes)
    if spec.id_maps(request.host, parts.machine) is not None:
        checks.check_remapped(request.host)
    warnings: list[str] = []
    host = request.host
    options = checks.parse_security_options(host.security_opt)
    if options.get("apparmor", "unconfined") != "unconfined" and not parts.machine.has_apparmor:
        warnings.append("AppArmor is not supported by the kernel: its profile has no effect")
    if host.network_mode == "host" and (host.port_bindings or host.publish_all_ports):
        warnings.append("Published ports are discarded when using host network mode")
    return tuple(warnings)


# --- image and request ------------------------------------------------------------------------


def merged_config(wanted: ContainerConfig, base: ImageConfig) -> ContainerConfig:
    """What the request leaves open is the image's. An entrypoint of one's own also replaces the
    image's command; ("",) or () as entrypoint means none."""
    entrypoint, cmd = wanted.entrypoint, wanted.cmd
    if entrypoint is None:
        entrypoint = base.entrypoint or None
        cmd = cmd or base.cmd or None
    elif not any(entrypoint):
        entrypoint = None
    return replace(
        wanted,
        env=merged_env(base.env, wanted.env),
        cmd=cmd,
        entrypoint=entrypoint,
        user=wanted.user or base.user,
        working_dir=_cleaned(wanted.working_dir or base.working_dir),
        exposed_ports=_union(_each_port(base.exposed_ports), _each_port(wanted.exposed_ports)),
        volumes=_union(base.volumes, wanted.volumes),
        labels={**base.labels, **wanted.labels},
        stop_signal=wanted.stop_signal or base.stop_signal,
        healthcheck=health.merged_check(wanted.healthcheck, image_check(base)),
        shell=wanted.shell or base.shell or None,
    )


def _cleaned(path: str) -> str:
    return "/" + posixpath.normpath(path).lstrip("/") if path.startswith("/") else path


def merged_env(base: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    names = {entry.partition("=")[0] for entry in wanted}
    kept = [entry for entry in base if entry.partition("=")[0] not in names]
    return (*wanted, *kept)


def _each_port(exposed: Sequence[str]) -> Sequence[str]:
    return [port for text in exposed for port in checks.each_port(text)]


def _union(base: Sequence[Item], wanted: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(dict.fromkeys((*base, *wanted)))


def image_check(config: ImageConfig) -> HealthCheck | None:
    check = config.healthcheck
    if check is None:
        return None
    return HealthCheck(
        check.test,
        check.interval,
        check.timeout,
        check.start_period,
        check.start_interval,
        check.retries,
    )


def with_usual_log(log_config: LogConfig, usual: ContainerDefaults) -> LogConfig:
    """Without a driver of its own a container gets the daemon's, and also the options that it
    doesn't say; with another one those would make no sense."""
    driver = log_config.driver or usual.log_driver
    if driver != usual.log_driver:
        return log_config
    return LogConfig(driver, {**usual.log_options, **log_config.options})


def with_defaults(host: HostConfig, machine: spec.Machine, *, unified: bool) -> HostConfig:
    """Docker shows these in inspect as if they had been asked for."""
    return replace(
        host,
        network_mode=host.network_mode or "default",
        # On v1 too, where Docker shows a container the host's paths.
        cgroupns_mode=host.cgroupns_mode
        or ("host" if host.privileged and not unified else "private"),
        masked_paths=spec.masked_paths(host, machine),
        readonly_paths=spec.readonly_paths(host),
        oom_kill_disable=None if unified else bool(host.oom_kill_disable),
        pids_limit=host.pids_limit if (host.pids_limit or 0) > 0 else None,
        memory_swap=host.memory_swap or 2 * host.memory,
        shm_size=host.shm_size or spec.DEFAULT_SHM_SIZE,
        ipc_mode=host.ipc_mode or "private",
        restart_policy=replace(host.restart_policy, name=host.restart_policy.name or "no"),
    )


def _of_others(parts: Parts, host: HostConfig) -> HostConfig:
    """What is shared with another container is shared with that one, whatever it is called later.

    Clients take a create's "not found" for the image's, and pull it: so a container that isn't
    there is a mistake of the request."""

    def meant(mode: str) -> str:
        if not mode.startswith("container:"):
            return mode
        return f"container:{parts.find(mode.removeprefix('container:')).record.id}"

    modes = (host.network_mode, host.pid_mode, host.ipc_mode)
    if any(mode.startswith("container:") for mode in modes):
        try:
            network, pid, ipc = map(meant, modes)
        except NotFound as error:
            raise InvalidRequest(str(error)) from error
        host = replace(host, network_mode=network, pid_mode=pid, ipc_mode=ipc)
    for link in host.links if host.network_mode in (*legacy_links.MODES, "none") else ():
        name = checks.parse_link(link)[1]
        try:
            parts.find(name)
        except NotFound as error:
            raise InvalidRequest(f"could not get container for {name}: {error}") from error
    return host


def _hostname(parts: Parts, request: CreateRequest, container_id: str) -> str:
    host = request.host
    if request.config.hostname:
        return request.config.hostname
    if host.network_mode == "host" or host.uts_mode == "host":
        return network_files.host_name()
    return spec.default_hostname(container_id)


def attachments(request: CreateRequest) -> tuple[Attachment, ...]:
    """The networks to join: that of NetworkMode first. Where others are named and it isn't, only
    those, as in Docker."""
    mode = request.host.network_mode or "default"
    if mode.startswith("container:"):
        return ()
    if request.config.network_disabled:
        return (Attachment("none"),)
    first = "bridge" if mode == "default" else mode
    wanted = dict(request.endpoints)
    own = wanted.pop(first, None) or wanted.pop(mode, None)
    others = tuple(Attachment(name, settings) for name, settings in wanted.items())
    if own is None and others:
        return others
    return (Attachment(first, own or EndpointSettings()), *others)


def _check_wishes(parts: Parts, wanted: Attachment) -> None:
    try:
        settings = wanted.settings
        parts.networks.check_wishes(
            wanted.network, checks.wished_addresses(settings), settings.aliases
        )
    except InvalidRequest as error:
        raise InvalidRequest(f"invalid config for network {wanted.network}: {error}") from error


def _mounts(parts: Parts, request: CreateRequest, image: Image) -> tuple[MountPoint, ...]:
    inherited: list[MountPoint] = []
    for reference in request.host.volumes_from:
        name, _, mode = reference.partition(":")
        try:
            other = parts.find(name).record
        except NotFound as error:
            # Clients take a create's "not found" for the image's, and pull it.
            raise InvalidRequest(str(error)) from error
        inherited += mounts.inherit(other.mounts, mode)
    points = mounts.wanted_mounts(
        request.config,
        request.host,
        image_volumes=image.config.volumes,
        inherited=inherited,
    )
    if request.host.volume_driver not in ("", "local") and any(
        point.type == "volume" and not point.from_mounts for point in points
    ):
        raise Unsupported(
            f"cannot use volume driver {request.host.volume_driver!r}: only 'local' is built in"
        )
    return tuple(_named(parts, point) for point in points)


def _named(parts: Parts, point: MountPoint) -> MountPoint:
    """An anonymous volume gets its name; an image is meant as it is now, whatever its name will
    stand for later."""
    if point.type == "volume" and not point.name:
        return replace(point, name=new_id())
    if point.type == "image":
        return replace(point, source=parts.images.resolve(point.source).id)
    return point


def already_connected(container_name: str, network_name: str) -> Forbidden:
    return Forbidden(
        f"endpoint with name {container_name} already exists in network {network_name}"
    )
