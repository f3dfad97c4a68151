"""From a record to a running process: what it needs is gathered, launched, joined, let go.

A failure at any point undoes everything: no address, port, process or mount stays.
"""

import asyncio
import contextlib
import logging
import os
import shutil
import socket
import stat
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from engine.containers import checks, contents, files, handover, legacy_links, log_options, spec
from engine.containers.container import Container
from engine.containers.machine import host_devices, with_block_devices
from engine.containers.model import Attachment, HostConfig, MountPoint, Record
from engine.containers.parts import Parts
from engine.containers.propagation import check_propagation, parse_mounts
from engine.errors import Conflict, EngineError, Failure, InvalidRequest, NotFound, about
from engine.kernel.libc import told
from engine.networks import endpoint_options
from engine.networks.endpoint import gateway_endpoint
from engine.networks.model import (
    SHARED_PORTS,
    DnsOptions,
    Endpoint,
    EndpointRequest,
    Network,
    PortBinding,
    PortRequest,
    Standing,
)
from engine.oci.rootfs import Rootfs
from engine.records import naming
from engine.runtime.handle import Lost, Shim, StartFailed
from engine.runtime.id_maps import IdMaps
from engine.runtime.payload import NO_USER
from engine.runtime.request import LaunchRequest, LogTarget

log = logging.getLogger(__name__)

NOT_STARTED = 128  # Docker's exit code for a start that failed before the command


@dataclass(frozen=True, slots=True)
class NetworkPlace:
    """Where a container's network namespace comes from."""

    path: str | None  # to join; "" = the host's, None = a new one
    files_of: Record | None = None  # the container whose hosts and resolv.conf it shares

    @property
    def is_own(self) -> bool:
        return self.path is None


async def launch(parts: Parts, container: Container) -> Shim:
    """The running container's shim; `container.record` then has its endpoints and ports.

    Raises EngineError, and StartFailed for what the command itself is to blame for."""
    try:
        return await _launch(parts, container, by_script=not container.is_odd)
    except _Unfit as unfit:
        log.info("container %s is started anew: %s", container.id, unfit)
        container.is_odd = True
        return await _launch(parts, container, by_script=False)


class _Unfit(Failure):
    """What was prepared was of no use, or ended before it was this container's."""


async def _launch(parts: Parts, container: Container, *, by_script: bool) -> Shim:
    record = container.record
    place = network_place(parts, record)
    pid_path = _pid_namespace(parts, record)
    ipc_pid = _ipc_pid(parts, record)
    lowers = parts.images.root_layers(parts.images.resolve(record.image_id))
    async with AsyncExitStack() as undo:
        undo.push_async_callback(parts.volumes.unmount_for, record.id)
        await parts.volumes.mount_for(record.id, volume_names(record))
        mounts = resolve_mounts(parts, record)
        undo.push_async_callback(parts.networks.leave, record.id)
        legacy_links.demand_running(legacy_links.links_of(parts, record))
        record = _allocate(parts, record, is_own=place.is_own)
        ahead = _asked_ahead(parts, container, record)
        request = ahead or _request(
            parts,
            _sized(container, record),
            place,
            spec.Surroundings(
                mounts,
                place.path,
                pid_path,
                host_devices(record.host),
                linked=tuple(legacy_links.variables(legacy_links.links_of(parts, record))),
                ipc_pid=ipc_pid,
                user_pid=_user_pid(parts, record),
            ),
            lowers,
        )
        undo.callback(clear_exec_dir, request.exec_dir)
        if ahead is None:
            write_files(parts, record, place)  # before its script, which finds them there
        shim = await parts.spawner.prepare(request, by_script=by_script)
        undo.push_async_callback(shim.abandon)
        joining = None
        if shim.is_told:
            joining = await _begin(_join(parts, record, shim))
            undo.push_async_callback(_settle, joining)
        if ahead is not None:
            write_files(parts, record, place)
        # Where a crash may come now, adoption finds in state.json what the process is to have.
        parts.store.save_state(record, durable=False)
        undo.callback(parts.save, container.record)
        launching = await _begin(parts.spawner.launch(shim, request))
        undo.push_async_callback(_settle, launching)
        if joining is None:
            # Later: the first process has more to do than the kernel has with its links.
            joining = await _begin(_join(parts, record, shim))
            undo.push_async_callback(_settle, joining)
        try:
            await launching
            await joining
            await _connect_clients(container, shim)
            await shim.go()
        except Lost as error:
            if shim.is_unfit or (shim.is_spare and not shim.was_told):
                raise _Unfit(str(error)) from error
            raise
        undo.pop_all()
    container.record = record
    return shim


async def _begin(part: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """It goes on while we do."""
    task = asyncio.create_task(part)
    await asyncio.sleep(0)  # that is how it begins
    return task


async def _settle(part: asyncio.Task[None]) -> None:
    """Of a start that is undone: nothing of it goes on. What was refused is known."""
    with contextlib.suppress(EngineError, OSError):
        await part


async def _join(parts: Parts, record: Record, shim: Shim) -> None:
    if shim.sockets is None:
        return
    if (standing := handover.first_standing(record.config)) is not Standing.READY:
        await parts.networks.regard(record.id, standing)
    await parts.networks.join(
        record.id,
        _endpoints(record),
        shim.sockets,
        record.ports,
        dns=dns_options(parts, record.host),
    )


def clear_exec_dir(exec_dir: str) -> None:
    """The shim's folder goes once its container's end is in our own record."""
    try:
        os.rmdir(exec_dir)  # usually it is empty
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(exec_dir)


def _endpoints(record: Record) -> tuple[Endpoint, ...]:
    found = (attachment.endpoint for attachment in record.attachments)
    return tuple(endpoint for endpoint in found if endpoint is not None)


async def _connect_clients(container: Container, shim: Shim) -> None:
    """Those who attached before the start: before the first instruction, so nothing is lost."""
    container.run_ended = asyncio.Event()
    for client in tuple(container.waiting_clients):
        reader, writer = await shim.attach(
            stdin=client.stdin, stdout=client.stdout, stderr=client.stderr
        )
        client.connect(reader, writer, container.run_ended)
    container.waiting_clients.clear()


# --- networks ---------------------------------------------------------------------------------


def has_own_network(host: HostConfig) -> bool:
    return host.network_mode != "host" and not host.network_mode.startswith("container:")


def network_place(parts: Parts, record: Record) -> NetworkPlace:
    mode = record.host.network_mode
    if mode == "host":
        return NetworkPlace("")
    if not mode.startswith("container:"):
        return NetworkPlace(None)
    with about("joining network namespace of container"):
        other = parts.find(mode.removeprefix("container:")).record
    if not other.state.status.is_up:
        raise Conflict(
            "cannot join network namespace of a non running container: container "
            f"{other.name} is {other.state.status.value}"
        )
    if other.id == record.id:
        raise InvalidRequest("cannot join own network namespace")
    return NetworkPlace(f"/proc/{other.state.pid}/ns/net", other)


def _pid_namespace(parts: Parts, record: Record) -> str | None:
    mode = record.host.pid_mode
    if mode == "host":
        return ""
    if not mode.startswith("container:"):
        return None
    other = _running(parts, mode.removeprefix("container:"), "PID")
    return f"/proc/{other.state.pid}/ns/pid"


def _ipc_pid(parts: Parts, record: Record) -> int:
    """Whose IPC namespace it shares; 0 for one of its own."""
    mode = record.host.ipc_mode
    if not mode.startswith("container:"):
        return 0
    other = _running(parts, mode.removeprefix("container:"), "IPC")
    if other.host.ipc_mode != "shareable":
        raise Conflict(
            f"cannot join IPC of container {other.id}: non-shareable IPC (hint: use "
            "IpcMode:shareable for the donor container)"
        )
    return other.state.pid


def _user_pid(parts: Parts, record: Record) -> int:
    """Whose user namespace it shares, where users are remapped: only that one's root has its
    capabilities over the namespace that the two have in common. 0 for one of its own."""
    ids, host = spec.id_maps(record.host, parts.machine), record.host
    for mode in (host.network_mode, host.pid_mode, host.ipc_mode):
        if ids is not None and mode.startswith("container:"):
            other = parts.find(mode.removeprefix("container:"))
            if other.shim is not None and other.shim.ids == ids:
                return other.record.state.pid
    return 0


def _running(parts: Parts, reference: str, what: str) -> Record:
    other = parts.find(reference).record
    if not other.state.status.is_up:
        raise Conflict(f"failed to join {what} namespace: container {other.id} is not running")
    return other


def _allocate(parts: Parts, record: Record, *, is_own: bool) -> Record:
    """The record of this boot, with its places in the networks."""
    with about("failed to set up container networking"):
        attachments = tuple(attach(parts, record, wanted) for wanted in record.attachments)
    if not is_own:
        return replace(record, attachments=attachments, ports=(), boot_id=parts.boot_id)
    wanted_ports = tuple(port_requests(record))
    endpoints = [found.endpoint for found in attachments if found.endpoint is not None]
    ports: tuple[PortBinding, ...] = ()
    if wanted_ports and any(endpoint.ifname for endpoint in endpoints):
        where = f"on endpoint {record.name} ({endpoints[0].endpoint_id})"
        with about(
            "failed to set up container networking: driver failed programming external"
            f" connectivity {where}"
        ):
            ports = parts.networks.reserve_ports(record.id, wanted_ports, endpoints)
    return replace(record, attachments=attachments, ports=ports, boot_id=parts.boot_id)


def attach(parts: Parts, record: Record, wanted: Attachment) -> Attachment:
    """The attachment with a place taken in its network."""
    network = _network(parts, wanted)
    settings = wanted.settings
    links = (*settings.links, *(record.host.links if not network.predefined else ()))
    # The other may come later: its name is looked up in the network each time.
    endpoint = parts.networks.allocate(
        network,
        EndpointRequest(
            container_id=record.id,
            container_name=record.name,
            hostname=record.config.hostname,
            aliases=settings.aliases,
            ipv4_address=settings.ipv4_address,
            ipv6_address=settings.ipv6_address,
            mac_address=settings.mac_address or record.config.mac_address,
            gateway_priority=settings.gateway_priority,
            ifname=endpoint_options.interface_name(settings.driver_opts),
            sysctls=endpoint_options.sysctls(settings.driver_opts),
            link_local=settings.link_local_ips,
            before=wanted.addresses,
            links={alias: _name_of(parts, name) for alias, name in map(checks.parse_link, links)},
        ),
    )
    return replace(
        wanted,
        network=network.name,
        network_id=network.id,
        endpoint=endpoint,
        dns_names=endpoint.dns_names,
    )


def _name_of(parts: Parts, reference: str) -> str:
    try:
        return parts.find(reference).record.name
    except NotFound:
        return reference


def _network(parts: Parts, wanted: Attachment) -> Network:
    """A network that was removed and made anew under its name is followed, as Docker does."""
    if wanted.network_id:
        with contextlib.suppress(NotFound):
            return parts.networks.get(wanted.network_id)
    return parts.networks.get(wanted.network)


def port_requests(record: Record) -> Iterator[PortRequest]:
    bound = set()
    for text, published in record.host.port_bindings.items():
        port, protocol = checks.parse_port(text)
        bound.add((port, protocol))
        for wish in published:
            low, _, high = wish.host_port.partition("-")
            yield PortRequest(
                port,
                protocol,
                host_ip=wish.host_ip.strip("[]"),
                host_port=int(low or 0),
                host_port_end=int(high or 0),
                shared=record.config.labels.get(SHARED_PORTS) == "true",
            )
    if record.host.publish_all_ports:
        for text in record.config.exposed_ports:
            if (exposed := checks.parse_port(text)) not in bound:
                yield PortRequest(*exposed)


def dns_options(parts: Parts, host: HostConfig) -> DnsOptions:
    """The container's own, else the daemon's."""
    usual = parts.defaults
    return DnsOptions(
        host.dns or usual.dns,
        host.dns_options or usual.dns_options,
        host.dns_search or usual.dns_search,
    )


def write_files(parts: Parts, record: Record, place: NetworkPlace) -> None:
    """In place, never by rename: a running container has these very files mounted."""
    if place.files_of is not None:
        return
    wanted = dns_options(parts, record.host)
    shares_network = place.path == ""
    host_resolv = _text("/etc/resolv.conf")
    if _serves_names(parts, record):
        resolv = files.served_resolv_conf(host_resolv, wanted)
    else:
        resolv = files.copied_resolv_conf(host_resolv, wanted, shares_network=shares_network)
    extra = [checks.parse_extra_host(entry) for entry in record.host.extra_hosts]
    extra += legacy_links.hosts(legacy_links.links_of(parts, record))
    hosts = files.hosts_text(
        record.config.hostname,
        record.config.domainname,
        _endpoints(record),
        extra,
        gateway=_host_gateway(parts, record, shares_network=shares_network),
        base=_text("/etc/hosts") if shares_network else "",
    )
    for path, text in (
        (record.resolv_conf_path, resolv),
        (record.hosts_path, hosts),
        (record.hostname_path, f"{record.config.hostname}\n"),
    ):
        _write_in_place(path, text)


def make_files(record: Record) -> None:
    """The files that `write_files` will write to."""
    for path in (record.resolv_conf_path, record.hosts_path, record.hostname_path):
        _write_in_place(path, "")


def _write_in_place(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        # Mostly it is new, and each change that is none would be one of the disk's journal.
        found = os.fstat(descriptor)
        if stat.S_IMODE(found.st_mode) != 0o644:
            os.fchmod(descriptor, 0o644)
        if found.st_size:
            os.ftruncate(descriptor, 0)
        left = memoryview(text.encode(errors="replace"))
        with naming(path):
            while left:
                left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _host_gateway(parts: Parts, record: Record, *, shares_network: bool) -> str:
    """What "host-gateway" stands for: this machine, at the container's own end of a bridge. Docker
    takes the default bridge's address, which is nowhere here while no container is on that."""
    if shares_network:
        return "127.0.0.1"
    bridged = [
        endpoint
        for endpoint in _endpoints(record)
        if parts.networks.get(endpoint.network_id).driver == "bridge"
    ]
    for version in (4, 6):
        if (endpoint := gateway_endpoint(bridged, version)) is not None:
            return endpoint.way_out(version)
    pools = parts.networks.get("bridge").pools
    return pools[0].gateway if pools else ""


def host_name() -> str:
    return socket.gethostname()


# --- mounts -----------------------------------------------------------------------------------


def volume_names(record: Record) -> list[str]:
    return [mount.name for mount in record.mounts if mount.type == "volume"]


def resolve_mounts(parts: Parts, record: Record) -> list[Mapping[str, object]]:
    ids = spec.id_maps(record.host, parts.machine)
    return [_resolve_mount(parts, mount, ids) for mount in record.mounts]


def _resolve_mount(parts: Parts, mount: MountPoint, ids: IdMaps | None) -> Mapping[str, object]:
    match mount.type:
        case "bind":
            require_source(mount)
            if mount.propagation.endswith(("shared", "slave")):
                table = parse_mounts(Path("/proc/self/mountinfo").read_text(errors="replace"))
                check_propagation(os.path.realpath(mount.source), mount.propagation, table)
            return spec.bind_mount(mount, mount.source)
        case "volume":
            volume = parts.volumes.get(mount.name)
            source = parts.volumes.source(volume)
            read_only = mount.read_only or "ro" in source.options
            bind = spec.bind_mount(replace(mount, read_only=read_only), source.path)
            # What lies elsewhere has the owners that it has there.
            return bind if volume.options else spec.with_ids(bind, ids)
        case "image":
            image = parts.images.resolve(mount.source)
            return spec.image_mount(mount, parts.images.layers(image))
        case _:
            return spec.tmpfs_mount(mount.destination, mount.options, read_only=mount.read_only)


def require_source(mount: MountPoint) -> None:
    """A missing source of `Mounts` is refused, one of `Binds` is made, as Docker does."""
    if os.path.exists(mount.source):
        return
    if mount.from_mounts and not mount.create_source:
        raise InvalidRequest(
            f'invalid mount config for type "bind": bind source path does not exist: {mount.source}'
        )
    try:
        _make_folders(Path(mount.source))
    except OSError as error:
        raise InvalidRequest(
            f"error while creating mount source path '{mount.source}': {error.strerror}"
        ) from error


def _make_folders(path: Path) -> None:
    """As mkdir -p with the usual umask, not with the engine's: who isn't root in the container is
    to get through."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        try:
            place.mkdir()
        except FileExistsError:
            if not place.is_dir():  # else another container that wants it was quicker
                raise
        else:
            place.chmod(0o755)


# --- the request to the runtime ---------------------------------------------------------------


def _sized(container: Container, record: Record) -> Record:
    """With the size of the terminal that a client told meanwhile."""
    if container.console_size is None:
        return record
    return replace(record, host=replace(record.host, console_size=container.console_size))


def _request(
    parts: Parts,
    record: Record,
    place: NetworkPlace,
    around: spec.Surroundings,
    lowers: tuple[str, ...],
) -> LaunchRequest:
    folder = parts.store.folder(record.id)
    if place.files_of is not None:
        other = place.files_of
        record = replace(
            record,
            hosts_path=other.hosts_path,
            resolv_conf_path=other.resolv_conf_path,
            hostname_path=other.hostname_path,
            config=replace(record.config, hostname=other.config.hostname),
        )
    host = with_block_devices(record.host)
    if host is not record.host:
        record = replace(record, host=host)
    return LaunchRequest(
        container_id=record.id,
        spec=spec.make_spec(record, parts.machine, around),
        seccomp=spec.seccomp_filter(record.host, parts.machine),
        user=record.config.user,
        groups=record.host.group_add,
        rootfs=Rootfs(
            lowers,
            str(folder / "rootfs/upper"),
            str(folder / "rootfs/work"),
            record.host.readonly_rootfs,
        ),
        exec_dir=parts.exec_dir(record.id),
        log=_log_target(record),
        open_stdin=record.config.open_stdin,
        stdin_once=record.config.stdin_once,
        init=bool(record.host.init),
        own_network=place.is_own,
        dns=_serves_names(parts, record),
        files=contents.to_place(folder, record.files),
    )


def request_ahead(parts: Parts, record: Record) -> LaunchRequest | None:
    """What the first start of a new container will ask for, if nothing changes until then; None
    where that depends on others, or on files of the host."""
    host = record.host
    if (
        record.mounts
        or host.tmpfs
        or not has_own_network(host)
        or legacy_links.links_of(parts, record)
        or any(mode.startswith("container:") for mode in (host.pid_mode, host.ipc_mode))
    ):
        return None
    around = spec.Surroundings((), None, _pid_namespace(parts, record), host_devices(host))
    lowers = parts.images.root_layers(parts.images.resolve(record.image_id))
    return _request(parts, record, NetworkPlace(None), around, lowers)


def _asked_ahead(parts: Parts, container: Container, record: Record) -> LaunchRequest | None:
    """What its spare does already, where that is sure to be what would be asked for now."""
    told = parts.spawner.told(container.id)
    if told is None or container.console_size is not None:
        return None
    made_of = cast(Record, told.basis)
    is_same = (
        record.host is made_of.host
        and record.config is made_of.config
        and record.name == made_of.name
        and told.request.dns == _serves_names(parts, record)
    )
    host = record.host
    # Devices are those of this moment.
    is_sure = not (host.devices or host.privileged) and with_block_devices(host) is host
    return told.request if is_same and is_sure else None


def _serves_names(parts: Parts, record: Record) -> bool:
    return any(
        parts.networks.get(attachment.network_id).serves_names
        for attachment in record.attachments
        if attachment.network_id
    )


def _log_target(record: Record) -> LogTarget:
    chosen = record.host.log_config
    max_size, max_file = log_options.log_limits(chosen)
    return LogTarget(
        record.log_path,
        max_size,
        max_file,
        log_options.record_part(log_options.attributes(record)),
        compress=log_options.is_compressed(chosen),
        buffer=log_options.buffer_size(chosen),
    )


def start_error(error: Exception) -> tuple[int, EngineError]:
    """(exit code to record, refusal for the client)"""
    match error:
        case StartFailed():
            # The CLI makes 126 and 127 out of the text; Docker's status for both is 400.
            kind = InvalidRequest if error.exit_code in (126, 127, NO_USER) else Failure
            code = NOT_STARTED if error.exit_code == NO_USER else error.exit_code
            return code, kind(str(error))
        case EngineError():
            return NOT_STARTED, error
        case OSError():
            return NOT_STARTED, Failure(f"cannot start container: {told(error)}")
        case _:
            raise error
