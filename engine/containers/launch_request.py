"""What a start asks of the runtime, and what can be asked ahead of it."""

from dataclasses import replace
from typing import cast

from engine.containers import contents, legacy_links, log_options, places, spec
from engine.containers.container import Container
from engine.containers.machine import host_devices, with_block_devices
from engine.containers.model import Record
from engine.containers.parts import Parts
from engine.oci.rootfs import Rootfs
from engine.runtime.request import LaunchRequest, LogTarget


def request_of(
    parts: Parts,
    record: Record,
    place: places.NetworkPlace,
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
            f"{folder}/rootfs/upper",
            f"{folder}/rootfs/work",
            record.host.readonly_rootfs,
        ),
        exec_dir=parts.exec_dir(record.id),
        log=_log_target(record),
        open_stdin=record.config.open_stdin,
        stdin_once=record.config.stdin_once,
        init=bool(record.host.init),
        own_network=place.is_own,
        dns=places.serves_names(parts, record),
        files=contents.to_place(folder, record.files),
    )


def request_ahead(parts: Parts, record: Record) -> LaunchRequest | None:
    """What the first start of a new container will ask for, if nothing changes until then; None
    where that depends on others, or on files of the host."""
    host = record.host
    if (
        record.mounts
        or host.tmpfs
        or not places.has_own_network(host)
        or legacy_links.links_of(parts, record)
        or any(mode.startswith("container:") for mode in (host.pid_mode, host.ipc_mode))
    ):
        return None
    around = spec.Surroundings((), None, places.pid_namespace(parts, record), host_devices(host))
    lowers = parts.images.root_layers(parts.images.resolve(record.image_id))
    return request_of(parts, record, places.NetworkPlace(None), around, lowers)


def asked_ahead(parts: Parts, container: Container, record: Record) -> LaunchRequest | None:
    """What its spare does already, where that is sure to be what would be asked for now."""
    told = parts.spawner.told(container.id)
    if told is None:
        return None
    made_of = cast(Record, told.basis)
    is_same = (
        record.host is made_of.host
        and record.config is made_of.config
        and record.name == made_of.name
        and told.request.dns == places.serves_names(parts, record)
    )
    host = record.host
    # Devices are those of this moment.
    is_sure = not (host.devices or host.privileged) and with_block_devices(host) is host
    return told.request if is_same and is_sure else None


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
