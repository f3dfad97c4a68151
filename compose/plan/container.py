"""pure: Service -> what the engine is told to create. One function a group of attributes."""

from __future__ import annotations

import math
import posixpath
from collections.abc import Callable, Mapping
from itertools import compress
from operator import attrgetter

from compose import VERSION
from compose.dataclass import dataclass
from compose.model.deploy import Deploy, DeviceRequest, Resource
from compose.model.health import HealthCheck
from compose.model.mount import BindOptions, FileReference, Mount, MountType
from compose.model.own import writes_in_place
from compose.model.project import Project
from compose.model.resources import FileObject
from compose.model.service import Attachment, BlkioConfig, Service
from compose.model.units import seconds
from compose.plan import names
from compose.plan.actions import ContainerRef, CreateContainer, FileCopy
from compose.plan.api_socket import ApiSocket, lend
from compose.plan.handover import handover_labels
from compose.plan.images import image_of, mounted_image
from compose.plan.sharing import loans, make_shares

Body = dict[str, object]
_NOTHING, _ANY = Deploy(), Resource()  # where nothing is said
LARGEST_PLACED = 1 << 20  # bytes of one file; the engine takes twice as many for a container


@dataclass(frozen=True, slots=True)
class Replica:
    """Which container of a service is to be made, and what of the surroundings it needs."""

    number: int
    name: str  # the final one
    created_as: str  # the one that it is created under
    image_id: str
    record: str
    config_hash: str
    image_volumes: tuple[str, ...]  # targets of the image's VOLUME lines
    inherited: Mapping[str, str]  # target -> anonymous volume to carry over
    replaces: str  # name of the container that it takes the place of; "" if none
    seccomp_profiles: Mapping[str, str]  # file -> JSON
    parents: Callable[[str], ContainerRef]  # service -> container whose namespaces are shared
    places_files: bool  # the engine takes contents of files, and puts them on a tmpfs
    api_socket: ApiSocket | None  # for one that uses it


def _copying(**fields: str) -> Callable[[Service], Body]:
    """The API's name = ours. Makes a function that copies those that hold something: of the many
    that there are a service has a few, so there is no loop of ours over all of them."""
    names, read = tuple(fields), attrgetter(*fields.values())

    def copied(service: Service) -> Body:
        values = read(service)
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in compress(zip(names, values, strict=True), values)
        }

    return copied


_plain = _copying(
    Hostname="hostname",
    Domainname="domainname",
    User="user",
    WorkingDir="working_dir",
    StopSignal="stop_signal",
    MacAddress="mac_address",
)
# Of HostConfig, those that can be changed as it runs, and all others.
_limits = _copying(
    CpuPeriod="cpu_period",
    CpuQuota="cpu_quota",
    CpuShares="cpu_shares",
    CpuRealtimePeriod="cpu_rt_period",
    CpuRealtimeRuntime="cpu_rt_runtime",
    CpuCount="cpu_count",
    CpusetCpus="cpuset",
    MemorySwap="memswap_limit",
    MemorySwappiness="mem_swappiness",
    ShmSize="shm_size",
    CgroupParent="cgroup_parent",
    OomKillDisable="oom_kill_disable",
    OomScoreAdj="oom_score_adj",
    StorageOpt="storage_opt",
)
_settings = _copying(
    Privileged="privileged",
    ReadonlyRootfs="read_only",
    CapAdd="cap_add",
    CapDrop="cap_drop",
    GroupAdd="group_add",
    Sysctls="sysctls",
    UsernsMode="userns_mode",
    CgroupnsMode="cgroup",
    Isolation="isolation",
    DeviceCgroupRules="device_cgroup_rules",
    Dns="dns",
    DnsSearch="dns_search",
    DnsOptions="dns_opt",
    Runtime="runtime",
    Annotations="annotations",
)


def make_creation(project: Project, service: Service, replica: Replica) -> CreateContainer:
    endpoints = make_endpoints(project, service, replica.name)
    shares = make_shares(service, replica.parents)
    body = _process(project, service)
    body["Labels"] = make_labels(project, service, replica)
    exposed, bindings = _ports(service)
    if exposed:
        body["ExposedPorts"] = exposed
    body["HostConfig"] = {
        **_settings(service),
        **_resources(service),
        **_security(project, service, replica.seccomp_profiles),
        **_devices(service),
        **_networking(project, service, tuple(endpoints), bindings),
        **_mounts(project, service, replica),
        **_running(service),
    }
    made = CreateContainer(
        slot=names.slot(service.name, replica.number),
        service=service.name,
        name=replica.created_as,
        body=body,
        endpoints=endpoints,
        files=make_files(project, service, placed=replica.places_files),
        places_files=replica.places_files,
        shares=shares,
        platform=service.platform,
    )
    return lend(made, service, replica.api_socket)


def make_labels(project: Project, service: Service, replica: Replica) -> dict[str, str]:
    labels = {
        **service.labels,
        **handover_labels(service),
        **project_labels(project),
        names.SERVICE: service.name,
        names.NUMBER: str(replica.number),
        names.ONE_OFF: "False",
        names.CONFIG_HASH: replica.config_hash,
        names.IMAGE: replica.image_id,
        names.DEPENDS_ON: names.write_dependencies(service.depends_on),
        names.SERVICE_RECORD: replica.record,
    }
    if replica.replaces:
        labels[names.REPLACES] = replica.replaces
    return labels


def project_labels(project: Project) -> dict[str, str]:
    labels = {
        names.PROJECT: project.name,
        names.WORKING_DIR: str(project.working_dir),
        names.CONFIG_FILES: ",".join(str(path) for path in project.files),
        names.VERSION: VERSION,
    }
    if project.environment_files:
        labels[names.ENVIRONMENT_FILE] = ",".join(str(path) for path in project.environment_files)
    return labels


def _process(project: Project, service: Service) -> Body:
    body: Body = {
        "Image": image_of(project, service),
        "Env": [
            name if value is None else f"{name}={value}"
            for name, value in service.environment.items()
        ],
        "Tty": service.tty,
        "OpenStdin": service.stdin_open,
        "AttachStdout": True,
        "AttachStderr": True,
        **_plain(service),
    }
    if service.command is not None:
        body["Cmd"] = list(service.command)
    if service.entrypoint is not None:
        # [""] is how the API spells "no entrypoint"; an empty list means the image's.
        body["Entrypoint"] = list(service.entrypoint) or [""]
    if service.healthcheck is not None:
        body["Healthcheck"] = make_healthcheck(service.healthcheck)
    if service.stop_grace_period is not None:
        body["StopTimeout"] = math.ceil(seconds(service.stop_grace_period))
    return body


def make_healthcheck(check: HealthCheck) -> Body:
    if check.is_disabled:
        return {"Test": ["NONE"]}
    return _filled(
        Test=list(check.test),
        Interval=check.interval,
        Timeout=check.timeout,
        StartPeriod=check.start_period,
        StartInterval=check.start_interval,
        Retries=check.retries,
    )


def make_limits(service: Service) -> Body:
    """What can be changed of a container as it runs, as its HostConfig has it."""
    return {**_resources(service), **_filled(RestartPolicy=make_restart_policy(service))}


def _resources(service: Service) -> Body:
    deploy = service.deploy or _NOTHING
    limits, reserved = deploy.limits or _ANY, deploy.reservations or _ANY
    body = _filled(
        **_limits(service),
        NanoCpus=round((service.cpus or limits.cpus or 0) * 1e9),
        CpuPercent=round(service.cpu_percent),
        Memory=service.mem_limit or limits.memory,
        MemoryReservation=service.mem_reservation or reserved.memory,
        PidsLimit=service.pids_limit or limits.pids,
    )
    if service.ulimits:
        body["Ulimits"] = [
            {"Name": name, "Soft": limit.soft, "Hard": limit.hard}
            for name, limit in sorted(service.ulimits.items())
        ]
    if service.blkio_config is not None:
        body |= _block_io(service.blkio_config)
    return body


def _block_io(config: BlkioConfig) -> Body:
    throttles = {
        "BlkioDeviceReadBps": config.device_read_bps,
        "BlkioDeviceReadIOps": config.device_read_iops,
        "BlkioDeviceWriteBps": config.device_write_bps,
        "BlkioDeviceWriteIOps": config.device_write_iops,
    }
    return _filled(
        BlkioWeight=config.weight,
        BlkioWeightDevice=[
            {"Path": device.path, "Weight": device.weight} for device in config.weight_device
        ],
        **{
            name: [{"Path": device.path, "Rate": device.rate} for device in devices]
            for name, devices in throttles.items()
        },
    )


def _security(project: Project, service: Service, profiles: Mapping[str, str]) -> Body:
    body: Body = {}
    options: list[str] = []
    for option in service.security_opt:
        if option in ("systempaths=unconfined", "systempaths:unconfined"):
            body |= {"MaskedPaths": [], "ReadonlyPaths": []}
        elif path := seccomp_file(project, option):
            options.append(f"seccomp={profiles.get(path, '')}")
        else:
            options.append(option)
    if options:
        body["SecurityOpt"] = options
    return body


def seccomp_file(project: Project, option: str) -> str:
    """The absolute path of the profile that a security option names; "" if it names none."""
    name, separator, value = option.replace("seccomp:", "seccomp=", 1).partition("=")
    if name != "seccomp" or not separator or value in ("unconfined", "builtin"):
        return ""
    return str(project.working_dir / value)


def _devices(service: Service) -> Body:
    reserved = (service.deploy or _NOTHING).reservations or _ANY
    requests = [_device_request(request) for request in reserved.devices]
    requests += [_device_request(request, "gpu") for request in service.gpus]
    cdi = [device.source for device in service.devices if device.is_cdi]
    if cdi:
        requests.append({"Driver": "cdi", "DeviceIDs": cdi})
    return _filled(
        Devices=[
            {
                "PathOnHost": device.source,
                "PathInContainer": device.target,
                "CgroupPermissions": device.permissions,
            }
            for device in service.devices
            if not device.is_cdi
        ],
        DeviceRequests=requests,
    )


def _device_request(request: DeviceRequest, extra: str = "") -> Body:
    capabilities = list(request.capabilities)
    if extra and extra not in capabilities:
        capabilities.append(extra)
    count = request.count
    if count is None and not request.device_ids:
        count = -1
    return _filled(
        Driver=request.driver,
        Count=count,
        DeviceIDs=list(request.device_ids),
        Capabilities=[capabilities],
        Options=dict(request.options),
    )


def _networking(
    project: Project, service: Service, networks: tuple[str, ...], bindings: Body
) -> Body:
    mode = service.network_mode
    if mode.startswith("service:"):
        mode = ""  # a Share says whose
    elif not mode:
        mode = networks[0] if networks else "none"
    return _filled(
        NetworkMode=mode,
        PortBindings=bindings,
        ExtraHosts=[
            f"{host}:{address}"
            for host, addresses in service.extra_hosts.items()
            for address in addresses
        ],
        Links=_links(project, service, all=True) if mode in ("bridge", "default") else [],
        PidMode="" if service.pid.startswith("service:") else service.pid,
        IpcMode="" if service.ipc.startswith("service:") else service.ipc,
        UTSMode="" if service.uts.startswith("service:") else service.uts,
    )


def _ports(service: Service) -> tuple[Body, Body]:
    """ExposedPorts, PortBindings."""
    exposed: Body = {}
    bindings: dict[str, list[object]] = {}
    for text in filter(None, service.expose):
        ports, _, protocol = text.partition("/")
        first, _, last = ports.partition("-")
        for port in range(int(first), int(last or first) + 1):
            exposed[f"{port}/{protocol or 'tcp'}"] = {}
    for published in service.ports:
        exposed[published.inside] = {}
        bindings.setdefault(published.inside, []).append(
            {"HostIp": published.host_ip, "HostPort": published.published}
        )
    return exposed, dict(bindings)


def make_endpoints(
    project: Project, service: Service, container: str
) -> dict[str, Mapping[str, object]]:
    """Engine's network name -> endpoint settings; the first is the primary network."""
    if service.network_mode:
        return {}
    return {
        project.networks[key].name: make_endpoint(project, service, key, container)
        for key in service.networks_by_priority()
    }


def make_endpoint(project: Project, service: Service, network: str, container: str) -> Body:
    attachment = service.networks.get(network) or Attachment()
    options: dict[str, str] = dict(attachment.driver_opts)
    if attachment.interface_name:
        options["com.docker.network.endpoint.ifname"] = attachment.interface_name
    return _filled(
        Aliases=list(dict.fromkeys([container, service.name, *attachment.aliases])),
        IPAMConfig=_filled(
            IPv4Address=attachment.ipv4_address,
            IPv6Address=attachment.ipv6_address,
            LinkLocalIPs=list(attachment.link_local_ips),
        ),
        MacAddress=attachment.mac_address,
        DriverOpts=options,
        GwPriority=attachment.gw_priority,
        Links=_links(project, service),
    )


def _links(project: Project, service: Service, *, all: bool = False) -> list[str]:
    """Renaming ones alone: a service's own name is known on all of its networks anyway, but for
    the engine's own bridge, where links are all that is known."""
    links = list(service.external_links)
    for link in service.links:
        target, _, alias = link.partition(":")
        if (all or alias not in ("", target)) and target in project.services:
            name = project.container_name(project.services[target], 1)
            links.append(f"{name}:{alias or target}")
    return links


def _mounts(project: Project, service: Service, replica: Replica) -> Body:
    binds: list[str] = []
    mounts: list[Body] = []
    for mount in service.volumes:
        if _as_bind_text(mount):
            binds.append(_bind_text(mount))
        else:
            mounts.append(_mount(project, mount, replica.inherited))
    targets = {mount.target for mount in service.volumes}
    mounts += [
        {"Type": "volume", "Source": volume, "Target": target}
        for target, volume in replica.inherited.items()
        if target in replica.image_volumes and target not in targets
    ]
    for reference, source, target in _file_references(project, service):
        if not is_given(reference, source, service, placed=replica.places_files):
            mounts.append(
                {"Type": "bind", "Source": source.file, "Target": target, "ReadOnly": True}
            )
    tmpfs = {path: options for path, _, options in (e.partition(":") for e in service.tmpfs)}
    outside = [
        loan.name + loan.access
        for loan in loans(service)
        if loan.field == "VolumesFrom" and not loan.of_service
    ]
    return _filled(Binds=binds, Mounts=mounts, Tmpfs=tmpfs, VolumesFrom=outside)


def _as_bind_text(mount: Mount) -> bool:
    """Whether the older `source:target:mode` form is meant: it makes missing sources, and is the
    only one that relabels. It has no word for what becomes of mounts below the source."""
    if mount.type is not MountType.BIND or ":" in mount.source + mount.target:
        return False
    options = mount.bind
    if options is None or options.selinux:
        return True
    return options.makes_source and options.recursive in ("", "enabled")


def _bind_text(mount: Mount) -> str:
    options = mount.bind
    modes = ["ro" if mount.read_only else "rw"]
    if options is not None:
        modes += [mode for mode in (options.selinux, options.propagation) if mode]
    return f"{mount.source}:{mount.target}:{','.join(modes)}"


def _mount(project: Project, mount: Mount, inherited: Mapping[str, str]) -> Body:
    source = mount.source
    if mount.type is MountType.VOLUME:
        volume = project.volumes.get(source)
        source = volume.name if volume else inherited.get(mount.target, "")
    elif mount.type is MountType.IMAGE:
        source = mounted_image(project, mount)
    body: Body = {"Type": str(mount.type), "Target": mount.target}
    body |= _filled(Source=source, ReadOnly=mount.read_only, Consistency=mount.consistency)
    if mount.type is MountType.BIND:
        bind = mount.bind or BindOptions()
        body |= _filled(
            BindOptions=_filled(
                Propagation=bind.propagation,
                CreateMountpoint=bind.makes_source,
                NonRecursive=bind.recursive == "disabled",
                ReadOnlyNonRecursive=bind.recursive == "writable",
                ReadOnlyForceRecursive=bind.recursive == "readonly",
            )
        )
    if mount.volume is not None:
        body |= _filled(
            VolumeOptions=_filled(
                NoCopy=mount.volume.nocopy,
                Subpath=mount.volume.subpath,
                Labels=dict(mount.volume.labels),
            )
        )
    if mount.tmpfs is not None:
        body |= _filled(TmpfsOptions=_filled(SizeBytes=mount.tmpfs.size, Mode=mount.tmpfs.mode))
    if mount.image is not None:
        body |= _filled(ImageOptions=_filled(Subpath=mount.image.subpath))
    return body


def _file_references(
    project: Project, service: Service
) -> list[tuple[FileReference, FileObject, str]]:
    """Configs and secrets of a service: reference, what it names, where it lands."""
    found: list[tuple[FileReference, FileObject, str]] = []
    for reference in service.configs:
        if reference.source in project.configs:
            found.append((reference, project.configs[reference.source], reference.config_path()))
    for reference in service.secrets:
        if reference.source in project.secrets:
            found.append((reference, project.secrets[reference.source], reference.secret_path()))
    return found


def is_given(
    reference: FileReference, source: FileObject, service: Service, *, placed: bool
) -> bool:
    """Whether the engine is given its content; else the file is bound.

    Our engine puts contents on a tmpfs (`placed`). With another one they are copied into the
    container, where that can be and is needed: for an owner or a mode, which a bind hasn't.
    """
    if not source.file or source.detached:
        return True
    asks = bool(reference.uid or reference.gid or reference.mode is not None)
    if source.content is None:
        return False
    if placed:
        return asks or writes_in_place(service) or len(source.content) <= LARGEST_PLACED
    return (asks or writes_in_place(service)) and not service.read_only


def make_files(project: Project, service: Service, *, placed: bool) -> tuple[FileCopy, ...]:
    return tuple(
        FileCopy(
            path=posixpath.normpath(target),
            content=source.content or b"",
            uid=int(reference.uid or 0),
            gid=int(reference.gid or 0),
            mode=_usual_mode(source) if reference.mode is None else reference.mode,
        )
        for reference, source, target in _file_references(project, service)
        if is_given(reference, source, service, placed=placed)
    )


def _usual_mode(source: FileObject) -> int:
    """A script stays one, as it does where the file is bound."""
    return 0o555 if source.executable else 0o444


def _running(service: Service) -> Body:
    body = _filled(RestartPolicy=make_restart_policy(service))
    if service.init is not None:
        body["Init"] = service.init
    if service.logging is not None:
        body["LogConfig"] = {
            "Type": service.logging.driver,
            "Config": dict(service.logging.options),
        }
    return body


def make_restart_policy(service: Service) -> Body:
    policy = service.deploy.restart_policy if service.deploy else None
    if policy is not None and policy.condition:
        name = {"none": "no", "any": "always"}.get(policy.condition, policy.condition)
        return {"Name": name} | _filled(MaximumRetryCount=policy.max_attempts)
    name, _, attempts = service.restart.partition(":")
    if not name:
        return {}
    return {"Name": name} | _filled(MaximumRetryCount=int(attempts or 0))


def _filled(**fields: object) -> Body:
    """What is empty, zero or false is the engine's default, so it isn't sent."""
    return {name: value for name, value in fields.items() if value}
