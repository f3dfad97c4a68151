"""What clients are told of containers: dataclasses -> API JSON. Pure; `wire.py` is the way in."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from engine.containers.checks import parse_link, parse_security_options
from engine.containers.legacy_links import has_links
from engine.containers.model import (
    Attachment,
    ContainerConfig,
    ExecInstance,
    HealthCheck,
    HealthState,
    HostConfig,
    MountPoint,
    MountRequest,
    Record,
    State,
    Status,
)
from engine.containers.streams import parse_detach_keys
from engine.networks.model import PREDEFINED, PortBinding

NEVER = "0001-01-01T00:00:00Z"
# Of HostConfig: null where they weren't given, but [] or {} where that was.
EMPTY_AS_GIVEN = frozenset(
    {
        *("Binds", "PortBindings", "VolumesFrom", "CapAdd", "CapDrop", "Dns", "DnsOptions"),
        *("DnsSearch", "ExtraHosts", "GroupAdd", "SecurityOpt", "BlkioWeightDevice"),
        *("BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps"),
        *("BlkioDeviceWriteIOps", "Devices", "DeviceCgroupRules", "DeviceRequests", "Ulimits"),
    }
)
EMPTY_OF_ENDPOINT: Mapping[str, object] = {
    "IPAMConfig": {},
    "Links": [],
    "Aliases": [],
    "DriverOpts": {},
}
NANOSECONDS = 1_000_000_000
Document = dict[str, object]


def timestamp(nanoseconds: int) -> str:
    """RFC 3339 with nine digits; 0 is Go's zero time."""
    if not nanoseconds:
        return NEVER
    seconds, rest = divmod(nanoseconds, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def container_summary(record: Record, *, image: str, now: int) -> Document:
    """One entry of the list. `image` as it is to be shown, `now` in nanoseconds."""
    return {**lasting_summary(record, image), "Status": status_text(record.state, now)}


def lasting_summary(record: Record, image: str) -> Document:
    """All of it but the status line, which ages by itself."""
    host: Document = {"NetworkMode": record.host.network_mode}
    if record.host.annotations:
        host["Annotations"] = record.host.annotations
    networks = {
        name: {**endpoint, "Aliases": None, "DNSNames": None}
        for name, endpoint in networks_json(record).items()
    }
    return {
        "Id": record.id,
        "Names": [f"/{record.name}"],
        "Image": image,
        "ImageID": record.image_id,
        "Command": " ".join((record.path, *map(quoted, record.args))),
        "Created": record.created // NANOSECONDS,
        "Ports": port_list(record),
        "Labels": record.config.labels,
        "State": record.state.status.value,
        "HostConfig": host,
        "NetworkSettings": {"Networks": networks},
        "Mounts": mounts_json(record),
    }


def quoted(argument: str) -> str:
    return f"'{argument}'" if " " in argument else argument


def status_text(state: State, now: int) -> str:
    """ "Up 9 seconds (healthy)", "Exited (137) 2 minutes ago"."""
    since = human_duration((now - state.started_at) / NANOSECONDS)
    ago = human_duration((now - state.finished_at) / NANOSECONDS)
    match state.status:
        case Status.RUNNING:
            if state.health is None:
                return f"Up {since}"
            health = state.health.status
            return f"Up {since} ({'health: starting' if health == 'starting' else health})"
        case Status.PAUSED:
            return f"Up {since} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {ago} ago"
        case Status.EXITED:
            return f"Exited ({state.exit_code}) {ago} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.CREATED:
            return "Created"
        case Status.DEAD:
            return "Dead"


def human_duration(seconds: float) -> str:
    """In Docker's words and steps."""
    minutes = int(seconds / 60)
    hours = int(seconds / 3600 + 0.5)
    steps = (
        (seconds < 1, "Less than a second"),
        (seconds < 2, "1 second"),
        (seconds < 60, f"{int(seconds)} seconds"),
        (minutes == 1, "About a minute"),
        (minutes < 60, f"{minutes} minutes"),
        (hours == 1, "About an hour"),
        (hours < 48, f"{hours} hours"),
        (hours < 24 * 14, f"{hours // 24} days"),
        (hours < 24 * 60, f"{hours // 24 // 7} weeks"),
        (hours < 24 * 365 * 2, f"{hours // 24 // 30} months"),
    )
    for fits, text in steps:
        if fits:
            return text
    return f"{int(seconds / 3600 / 24 / 365)} years"


def port_list(record: Record) -> list[Document]:
    if not _has_ports(record):
        return []
    published = [
        {
            "IP": binding.host_ip,
            "PrivatePort": binding.container_port,
            "PublicPort": binding.host_port,
            "Type": binding.protocol,
        }
        for binding in record.ports
    ]
    taken = {f"{binding.container_port}/{binding.protocol}" for binding in record.ports}
    exposed = [split_port(port) for port in record.config.exposed_ports if port not in taken]
    return published + [{"PrivatePort": number, "Type": kind} for number, kind in exposed]


def _has_ports(record: Record) -> bool:
    """While it runs and is on a network with a way out, which others could come by: that is neither
    an internal one, nor the host's or another container's."""
    return record.state.status.is_up and any(
        each.endpoint is not None and (each.endpoint.gateway or each.endpoint.ipv6_gateway)
        for each in record.attachments
    )


def split_port(port: str) -> tuple[int, str]:
    number, _, protocol = port.partition("/")
    return int(number), protocol or "tcp"


def port_map(exposed: Sequence[str], bindings: Sequence[PortBinding]) -> Document:
    """{"80/tcp": [{"HostIp", "HostPort"}]}, null for a port that is only exposed."""
    found: dict[str, list[Document]] = {}
    for binding in bindings:
        # None where it is open at the container's own address.
        host_port = str(binding.host_port or "")
        entry: Document = {"HostIp": binding.host_ip, "HostPort": host_port}
        found.setdefault(f"{binding.container_port}/{binding.protocol}", []).append(entry)
    return {port: found.get(port) for port in {**dict.fromkeys(exposed), **found}}


def mounts_json(record: Record) -> list[Document]:
    """What `HostConfig.Tmpfs` asked for is shown there alone."""
    return [
        mount_json(mount) for mount in record.mounts if mount.type != "tmpfs" or mount.from_mounts
    ]


def mount_json(mount: MountPoint) -> Document:
    document: Document = {"Type": mount.type}
    if mount.name:
        document["Name"] = mount.name
    document |= {"Source": mount.source, "Destination": mount.destination}
    if mount.driver:
        document["Driver"] = mount.driver
    unnamed = mount.anonymous and not mount.from_mounts
    mode = mount.mode or ("z" if mount.type == "volume" and not unnamed else "")
    return document | {
        "Mode": mode,
        "RW": not mount.read_only,
        "Propagation": mount.propagation,
    }


def networks_json(record: Record) -> dict[str, Document]:
    if record.config.network_disabled:  # nor is it on the network "none"
        return {}
    return {place.network: endpoint_json(record, place) for place in record.attachments}


def endpoint_json(record: Record, place: Attachment) -> Document:
    asked, endpoint = place.settings, place.endpoint
    addresses: Document = {}
    if asked.ipv4_address:
        addresses["IPv4Address"] = asked.ipv4_address
    if asked.ipv6_address:
        addresses["IPv6Address"] = asked.ipv6_address
    if asked.link_local_ips:
        addresses["LinkLocalIPs"] = asked.link_local_ips
    # The default bridge has no name service.
    names = place.dns_names or (endpoint.dns_names if endpoint else ())
    if place.network in PREDEFINED:
        names = ()
    document: Document = {
        "IPAMConfig": addresses or None,
        "Links": asked.links or None,
        "Aliases": asked.aliases or None,
        "MacAddress": endpoint.mac_address if endpoint else asked.mac_address,
        "DriverOpts": asked.driver_opts or None,
        "GwPriority": asked.gateway_priority,
        "NetworkID": place.network_id,
        "EndpointID": endpoint.endpoint_id if endpoint else "",
        "Gateway": endpoint.gateway if endpoint else "",
        "IPAddress": endpoint.ipv4_address if endpoint else "",
        "IPPrefixLen": endpoint.ipv4_prefix if endpoint else 0,
        "IPv6Gateway": endpoint.ipv6_gateway if endpoint else "",
        "GlobalIPv6Address": endpoint.ipv6_address if endpoint else "",
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix if endpoint else 0,
        "DNSNames": names or None,
    }
    return document | {key: EMPTY_OF_ENDPOINT[key] for key in asked.given if document[key] is None}


def _apparmor_profile(host: HostConfig) -> str:
    """What was asked for."""
    return parse_security_options(host.security_opt).get("apparmor", "")


def container_json(record: Record) -> Document:
    # The files are named by the first start, also where it failed.
    began = record.state.started_at > 0 or bool(record.state.error)
    return {
        "Id": record.id,
        "Created": timestamp(record.created),
        "Path": record.path,
        "Args": record.args,
        "State": state_json(record.state),
        "Image": record.image_id,
        "ResolvConfPath": record.resolv_conf_path if began else "",
        "HostnamePath": record.hostname_path if began else "",
        "HostsPath": record.hosts_path if began else "",
        # The files of `local` are nobody's to read.
        "LogPath": record.log_path if began and record.host.log_config.driver != "local" else "",
        "Name": f"/{record.name}",
        "RestartCount": record.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": _apparmor_profile(record.host),
        "ExecIDs": record.exec_ids or None,
        "HostConfig": {
            **host_config_json(record.host),
            "Links": links_json(record) or None,
            **unconfined_json(record.host),
        },
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "Mounts": mounts_json(record),
        "Config": config_json(_with_mac_address(record)),
        "NetworkSettings": network_settings_json(record),
    }


def _with_mac_address(record: Record) -> ContainerConfig:
    """The address that was asked for on the first network, also where older clients look for it."""
    mode = record.host.network_mode
    first = "bridge" if mode == "default" else mode
    asked = next((each.settings for each in record.attachments if each.network == first), None)
    if record.config.mac_address or asked is None:
        return record.config
    return replace(record.config, mac_address=asked.mac_address)


def unconfined_json(host: HostConfig) -> Document:
    """What Docker adds for those that see the host's processes, and leaves out for those that
    may do everything."""
    document: Document = {}
    sees_host = host.privileged or "host" in (host.pid_mode, host.ipc_mode)
    if sees_host and not any(option.startswith("label") for option in host.security_opt):
        document["SecurityOpt"] = (*host.security_opt, "label=disable")
    if host.privileged:
        document["MaskedPaths"] = host.masked_paths or None
        document["ReadonlyPaths"] = host.readonly_paths or None
    return document


def links_json(record: Record) -> list[str]:
    """On the default bridge alone, with all names whole: "/db:/web/alias"."""
    links = record.host.links if has_links(record) else ()
    return [f"/{name}:/{record.name}/{alias}" for alias, name in map(parse_link, links)]


def state_json(state: State) -> Document:
    document: Document = {
        "Status": state.status.value,
        "Running": state.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING),
        "Paused": state.status is Status.PAUSED,
        "Restarting": state.status is Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": state.status is Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": timestamp(state.started_at),
        "FinishedAt": timestamp(state.finished_at),
    }
    if state.health is not None:
        document["Health"] = health_json(state.health)
    return document


def health_json(health: HealthState) -> Document:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": timestamp(result.start),
                "End": timestamp(result.end),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.log
        ],
    }


def config_json(config: ContainerConfig) -> Document:
    document: Document = {
        "Hostname": config.hostname,
        "Domainname": config.domainname,
        "User": config.user,
        "AttachStdin": config.attach_stdin,
        "AttachStdout": config.attach_stdout,
        "AttachStderr": config.attach_stderr,
        "Tty": config.tty,
        "OpenStdin": config.open_stdin,
        "StdinOnce": config.stdin_once,
        "Env": config.env or None,
        "Cmd": config.cmd,
        "Image": config.image,
        "Volumes": {path: {} for path in config.volumes} or None,
        "WorkingDir": config.working_dir,
        "Entrypoint": config.entrypoint,
        "OnBuild": config.on_build,
        "Labels": config.labels,
    }
    if config.exposed_ports:
        document["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.healthcheck is not None:
        document["Healthcheck"] = healthcheck_json(config.healthcheck)
    if config.network_disabled:
        document["NetworkDisabled"] = True
    if config.mac_address:
        document["MacAddress"] = config.mac_address
    if config.stop_signal:
        document["StopSignal"] = config.stop_signal
    if config.stop_timeout is not None:
        document["StopTimeout"] = config.stop_timeout
    if config.shell:
        document["Shell"] = config.shell
    return document


def healthcheck_json(check: HealthCheck) -> Document:
    document: Document = {"Test": check.test}
    for key, value in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
        ("Retries", check.retries),
    ):
        if value:
            document[key] = value
    return document


def host_config_json(host: HostConfig) -> Document:
    document: Document = {
        "Binds": host.binds or None,
        "ContainerIDFile": host.container_id_file,
        "LogConfig": {"Type": host.log_config.driver, "Config": host.log_config.options},
        "NetworkMode": host.network_mode,
        "PortBindings": {
            port: [{"HostIp": one.host_ip, "HostPort": one.host_port} for one in wanted]
            for port, wanted in host.port_bindings.items()
        }
        or None,
        "RestartPolicy": {
            "Name": host.restart_policy.name,
            "MaximumRetryCount": host.restart_policy.maximum_retry_count,
        },
        "AutoRemove": host.auto_remove,
        "VolumeDriver": host.volume_driver,
        "VolumesFrom": host.volumes_from or None,
        "ConsoleSize": host.console_size,
        "CapAdd": host.cap_add or None,
        "CapDrop": host.cap_drop or None,
        "CgroupnsMode": host.cgroupns_mode,
        "Dns": host.dns or None,
        "DnsOptions": host.dns_options or None,
        "DnsSearch": host.dns_search or None,
        "ExtraHosts": host.extra_hosts or None,
        "GroupAdd": host.group_add or None,
        "IpcMode": host.ipc_mode,
        "Cgroup": host.cgroup,
        "Links": host.links or None,
        "OomScoreAdj": host.oom_score_adj,
        "PidMode": host.pid_mode,
        "Privileged": host.privileged,
        "PublishAllPorts": host.publish_all_ports,
        "ReadonlyRootfs": host.readonly_rootfs,
        "SecurityOpt": host.security_opt or None,
        "UTSMode": host.uts_mode,
        "UsernsMode": host.userns_mode,
        "ShmSize": host.shm_size,
        "Runtime": host.runtime or "pyengine",
        "Isolation": host.isolation,
        "CpuShares": host.cpu_shares,
        "Memory": host.memory,
        "NanoCpus": host.nano_cpus,
        "CgroupParent": host.cgroup_parent,
        "BlkioWeight": host.blkio_weight,
        "BlkioWeightDevice": host.blkio_weight_device or None,
        "BlkioDeviceReadBps": host.blkio_device_read_bps or None,
        "BlkioDeviceWriteBps": host.blkio_device_write_bps or None,
        "BlkioDeviceReadIOps": host.blkio_device_read_iops or None,
        "BlkioDeviceWriteIOps": host.blkio_device_write_iops or None,
        "CpuPeriod": host.cpu_period,
        "CpuQuota": host.cpu_quota,
        "CpuRealtimePeriod": host.cpu_realtime_period,
        "CpuRealtimeRuntime": host.cpu_realtime_runtime,
        "CpusetCpus": host.cpuset_cpus,
        "CpusetMems": host.cpuset_mems,
        "Devices": [
            {
                "PathOnHost": device.path_on_host,
                "PathInContainer": device.path_in_container,
                "CgroupPermissions": device.cgroup_permissions,
            }
            for device in host.devices
        ]
        or None,
        "DeviceCgroupRules": host.device_cgroup_rules or None,
        "DeviceRequests": host.device_requests or None,
        "MemoryReservation": host.memory_reservation,
        "MemorySwap": host.memory_swap,
        "MemorySwappiness": host.memory_swappiness,
        "OomKillDisable": host.oom_kill_disable,
        "PidsLimit": host.pids_limit,
        "Ulimits": [
            {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in host.ulimits
        ]
        or None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": host.masked_paths,
        "ReadonlyPaths": host.readonly_paths,
    }
    for key in host.given_empty:
        if document[key] is None:
            document[key] = {} if key == "PortBindings" else []
    return document | _given(host)


def _given(host: HostConfig) -> Document:
    """Fields that Docker leaves out where they aren't given."""
    optional: Mapping[str, object] = {
        "Mounts": [mount_request_json(mount) for mount in host.mounts],
        "Tmpfs": host.tmpfs,
        "Sysctls": host.sysctls,
        "StorageOpt": host.storage_opt,
        "Annotations": host.annotations,
        "Init": host.init,
        "KernelMemoryTCP": host.kernel_memory_tcp,
    }
    return {key: value for key, value in optional.items() if value or value is False}


def mount_request_json(mount: MountRequest) -> Document:
    document: Document = {"Type": mount.type}
    if mount.source:
        document["Source"] = mount.source
    document["Target"] = mount.target
    if mount.read_only:
        document["ReadOnly"] = True
    if mount.consistency:
        document["Consistency"] = mount.consistency
    for key, options in (
        ("BindOptions", _bind_options(mount)),
        ("VolumeOptions", _volume_options(mount)),
        ("ImageOptions", _image_options(mount)),
        ("TmpfsOptions", _tmpfs_options(mount)),
    ):
        if options:
            document[key] = options
    return document


def _bind_options(mount: MountRequest) -> Document:
    options: Document = {
        "Propagation": mount.propagation,
        "NonRecursive": mount.non_recursive,
        "CreateMountpoint": mount.create_mountpoint,
        "ReadOnlyNonRecursive": mount.read_only_non_recursive,
        "ReadOnlyForceRecursive": mount.read_only_force_recursive,
    }
    return {key: value for key, value in options.items() if value}


def _image_options(mount: MountRequest) -> Document:
    return {"Subpath": mount.subpath} if mount.type == "image" and mount.subpath else {}


def _volume_options(mount: MountRequest) -> Document:
    driver = {"Name": mount.volume_driver, "Options": mount.volume_driver_options}
    options: Document = {
        "NoCopy": mount.no_copy,
        "Labels": mount.volume_labels,
        "Subpath": mount.subpath if mount.type == "volume" else "",
        "DriverConfig": {key: value for key, value in driver.items() if value},
    }
    return {key: value for key, value in options.items() if value}


def _tmpfs_options(mount: MountRequest) -> Document:
    options: Document = {
        "SizeBytes": mount.tmpfs_size,
        "Mode": mount.tmpfs_mode,
        "Options": mount.tmpfs_options,
    }
    return {key: value for key, value in options.items() if value}


def network_settings_json(record: Record) -> Document:
    """The fields beside `Networks` tell of the default bridge, for old clients."""
    networks = networks_json(record)
    bridge = networks.get("bridge", {})
    # Who joins another's network has no sandbox of its own.
    running = record.state.status.is_up and not record.host.network_mode.startswith("container:")
    return {
        "Bridge": "",
        "SandboxID": record.id if running else "",
        "SandboxKey": f"/proc/{record.state.pid}/ns/net" if running else "",
        "Ports": port_map(record.config.exposed_ports, record.ports) if _has_ports(record) else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "GlobalIPv6Address": bridge.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": bridge.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "IPv6Gateway": bridge.get("IPv6Gateway", ""),
        "MacAddress": bridge.get("MacAddress", ""),
        "Networks": networks,
    }


def exec_json(instance: ExecInstance) -> Document:
    config = instance.config
    return {
        "ID": instance.id,
        "Running": instance.running,
        "ExitCode": instance.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": config.cmd[0],
            "arguments": config.cmd[1:],
            "privileged": config.privileged,
            **({"user": config.user} if config.user else {}),
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": instance.can_remove,
        "ContainerID": instance.container_id,
        "DetachKeys": _keys(config.detach_keys),
        "Pid": instance.pid,
    }


def _keys(text: str) -> str:
    """As Go writes bytes; "" stands for the usual ones."""
    return base64.b64encode(parse_detach_keys(text)).decode() if text else ""
