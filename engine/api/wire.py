"""What clients ask for: API JSON -> our dataclasses. Pure; the way back is in `shown.py`.

Only types are checked here; what a value means, and whether it can be had, is decided below.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

from engine.api.fields import Fields
from engine.api.request import Version
from engine.api.shown import EMPTY_AS_GIVEN, EMPTY_OF_ENDPOINT
from engine.api.versions import as_understood
from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    Device,
    EndpointSettings,
    ExecConfig,
    HealthCheck,
    HostConfig,
    LogConfig,
    MountRequest,
    PlacedFile,
    PublishedPort,
    ResourceUpdate,
    RestartPolicy,
    Ulimit,
)
from engine.errors import InvalidRequest
from engine.networks.model import AddressPool, NetworkSpec

_LARGEST_MODE = 0o7777
_LARGEST_ID = 2**32 - 2


def read_create(
    document: Mapping[str, object], *, name: str, platform: str = "", version: Version
) -> CreateRequest:
    body = Fields(document)
    if not document:
        raise InvalidRequest("config cannot be empty in order to create a container")
    host = read_host_config(body.inside("HostConfig"))
    if body.text("Runtime") and not host.runtime:
        host = replace(host, runtime=body.text("Runtime"))  # where docker-py puts it
    endpoints = body.inside("NetworkingConfig").inside("EndpointsConfig")
    asked = CreateRequest(
        config=read_config(body),
        host=host,
        endpoints={
            "bridge" if network == "default" else network: read_endpoint(
                _demanded(endpoints, network)
            )
            for network in endpoints.names()
        },
        name=name.removeprefix("/"),
        platform=platform,
        files=read_files(body),
    )
    return as_understood(asked, version)


def read_files(body: Fields) -> dict[PlacedFile, bytes]:
    """`Files` is this engine's own, of a create and of an update:
    [{"Target": "/run/secrets/a", "Content": base64, "UID": 0, "GID": 0, "Mode": 292}]."""
    found = {}
    for each in body.each("Files"):
        mode = each.integer("Mode", 0o444, low=0)
        owner, group = (each.integer(key, low=0) for key in ("UID", "GID"))
        if mode > _LARGEST_MODE or max(owner, group) > _LARGEST_ID:
            raise InvalidRequest("invalid value of Files: Mode, UID or GID is too large")
        try:
            content = base64.b64decode(each.text("Content"), validate=True)
        except ValueError:
            raise each.wrong("Content", "base64") from None
        found[PlacedFile(each.text("Target"), owner, group, mode)] = content
    return found


def read_config(body: Fields) -> ContainerConfig:
    return ContainerConfig(
        image=body.text("Image"),
        hostname=body.text("Hostname"),
        domainname=body.text("Domainname"),
        user=body.text("User"),
        attach_stdin=body.flag("AttachStdin"),
        attach_stdout=body.flag("AttachStdout"),
        attach_stderr=body.flag("AttachStderr"),
        exposed_ports=body.set_of("ExposedPorts"),
        tty=body.flag("Tty"),
        open_stdin=body.flag("OpenStdin"),
        stdin_once=body.flag("StdinOnce"),
        env=body.texts("Env"),
        cmd=body.words("Cmd"),
        entrypoint=body.words("Entrypoint"),
        healthcheck=_healthcheck(body.inside("Healthcheck")) if "Healthcheck" in body else None,
        volumes=body.set_of("Volumes"),
        working_dir=body.text("WorkingDir"),
        labels=body.text_map("Labels"),
        stop_signal=body.text("StopSignal"),
        stop_timeout=body.optional_integer("StopTimeout"),
        shell=body.optional_texts("Shell"),
        on_build=body.optional_texts("OnBuild"),
        network_disabled=body.flag("NetworkDisabled"),
        mac_address=body.text("MacAddress"),
    )


def _healthcheck(check: Fields) -> HealthCheck:
    return HealthCheck(
        test=check.texts("Test"),
        interval=check.integer("Interval"),
        timeout=check.integer("Timeout"),
        start_period=check.integer("StartPeriod"),
        start_interval=check.integer("StartInterval"),
        retries=check.integer("Retries"),
    )


def _unless_default(swappiness: int | None) -> int | None:
    """The docker command writes -1 for what was not asked for."""
    return None if swappiness == -1 else swappiness


def read_host_config(host: Fields) -> HostConfig:
    for key, what in (("IOMaximumBandwidth", "bandwidth"), ("IOMaximumIOps", "IOPs")):
        if host.integer(key):
            raise InvalidRequest(
                f"invalid option: QoS maximum {what} configuration is not supported on linux"
            )
    if "" in host.text_map("Annotations"):
        raise InvalidRequest(
            "invalid Annotations: the empty string is not permitted as an annotation key"
        )
    log = host.inside("LogConfig")
    mode = host.text("NetworkMode")
    return HostConfig(
        given_empty=tuple(key for key in host.empties() if key in EMPTY_AS_GIVEN),
        binds=host.texts("Binds"),
        mounts=tuple(_mount(mount) for mount in host.each("Mounts")),
        tmpfs=host.text_map("Tmpfs"),
        volumes_from=host.texts("VolumesFrom"),
        volume_driver=host.text("VolumeDriver"),
        container_id_file=host.text("ContainerIDFile"),
        network_mode="bridge" if mode in ("", "default") else mode,
        port_bindings=_port_bindings(host.inside("PortBindings")),
        publish_all_ports=host.flag("PublishAllPorts"),
        links=host.texts("Links"),
        dns=host.texts("Dns"),
        dns_options=host.texts("DnsOptions"),
        dns_search=host.texts("DnsSearch"),
        extra_hosts=host.texts("ExtraHosts"),
        restart_policy=_restart_policy(host.inside("RestartPolicy")),
        auto_remove=host.flag("AutoRemove"),
        log_config=LogConfig(log.text("Type"), log.text_map("Config")),
        console_size=_console_size(host),
        annotations=host.text_map("Annotations"),
        cap_add=host.words("CapAdd") or (),
        cap_drop=host.words("CapDrop") or (),
        group_add=host.texts("GroupAdd"),
        privileged=host.flag("Privileged"),
        readonly_rootfs=host.flag("ReadonlyRootfs"),
        security_opt=host.texts("SecurityOpt"),
        masked_paths=host.optional_texts("MaskedPaths"),
        readonly_paths=host.optional_texts("ReadonlyPaths"),
        cgroupns_mode=host.text("CgroupnsMode"),
        ipc_mode=host.text("IpcMode"),
        pid_mode=host.text("PidMode"),
        uts_mode=host.text("UTSMode"),
        userns_mode=host.text("UsernsMode"),
        sysctls=host.text_map("Sysctls"),
        shm_size=host.integer("ShmSize"),
        storage_opt=host.text_map("StorageOpt"),
        runtime=host.text("Runtime"),
        isolation=host.text("Isolation"),
        init=host.optional_flag("Init"),
        oom_score_adj=host.integer("OomScoreAdj"),
        cgroup=host.text("Cgroup"),
        cgroup_parent=host.text("CgroupParent"),
        memory=host.integer("Memory"),
        memory_swap=host.integer("MemorySwap"),
        memory_reservation=host.integer("MemoryReservation"),
        memory_swappiness=_unless_default(host.optional_integer("MemorySwappiness")),
        kernel_memory_tcp=host.integer("KernelMemoryTCP"),
        oom_kill_disable=host.optional_flag("OomKillDisable"),
        nano_cpus=host.integer("NanoCpus"),
        cpu_shares=host.integer("CpuShares"),
        cpu_period=host.integer("CpuPeriod"),
        cpu_quota=host.integer("CpuQuota"),
        cpu_realtime_period=host.integer("CpuRealtimePeriod"),
        cpu_realtime_runtime=host.integer("CpuRealtimeRuntime"),
        cpuset_cpus=host.text("CpusetCpus"),
        cpuset_mems=host.text("CpusetMems"),
        pids_limit=host.optional_integer("PidsLimit"),
        blkio_weight=host.integer("BlkioWeight", low=0),
        blkio_weight_device=host.objects("BlkioWeightDevice"),
        blkio_device_read_bps=host.objects("BlkioDeviceReadBps"),
        blkio_device_write_bps=host.objects("BlkioDeviceWriteBps"),
        blkio_device_read_iops=host.objects("BlkioDeviceReadIOps"),
        blkio_device_write_iops=host.objects("BlkioDeviceWriteIOps"),
        ulimits=tuple(
            Ulimit(limit.text("Name"), limit.integer("Soft"), limit.integer("Hard"))
            for limit in host.each("Ulimits")
        ),
        devices=tuple(
            Device(
                device.text("PathOnHost"),
                device.text("PathInContainer"),
                device.text("CgroupPermissions") or "rwm",
            )
            for device in host.each("Devices")
        ),
        device_cgroup_rules=host.texts("DeviceCgroupRules"),
        device_requests=host.objects("DeviceRequests"),
    )


# Which kinds of mount have the options of another's name.
_OPTIONS_OF = {"Bind": ("bind",), "Volume": ("volume", "cluster"), "Image": ("image",),
               "Tmpfs": ("tmpfs",), "Cluster": ("cluster",)}  # fmt: skip


def _mount(mount: Fields) -> MountRequest:
    kind = mount.text("Type")
    for name, kinds in _OPTIONS_OF.items():
        if f"{name}Options" in mount and kind not in kinds:
            raise InvalidRequest(f'{name}Options must not be specified on mount type "{kind}"')
    bind = mount.inside("BindOptions")
    volume = mount.inside("VolumeOptions")
    driver = volume.inside("DriverConfig")
    tmpfs = mount.inside("TmpfsOptions")
    mode = tmpfs.integer("Mode", low=0)
    if mode > _LARGEST_MODE:
        raise tmpfs.wrong("Mode", "file permissions")
    return MountRequest(
        type=kind,
        target=mount.text("Target"),
        source=mount.text("Source"),
        read_only=mount.flag("ReadOnly"),
        consistency=mount.text("Consistency"),
        propagation=bind.text("Propagation"),
        non_recursive=bind.flag("NonRecursive"),
        create_mountpoint=bind.flag("CreateMountpoint"),
        read_only_non_recursive=bind.flag("ReadOnlyNonRecursive"),
        read_only_force_recursive=bind.flag("ReadOnlyForceRecursive"),
        no_copy=volume.flag("NoCopy"),
        subpath=volume.text("Subpath") or mount.inside("ImageOptions").text("Subpath"),
        volume_labels=volume.text_map("Labels"),
        volume_driver=driver.text("Name"),
        volume_driver_options=driver.text_map("Options"),
        tmpfs_size=tmpfs.integer("SizeBytes", low=0),
        tmpfs_mode=mode,
        tmpfs_options=_options(tmpfs),
    )


def _options(tmpfs: Fields) -> tuple[tuple[str, ...], ...]:
    """[["noexec"], ["uid", "1000"]]"""
    wrapped = tmpfs.lists("Options")
    for option in wrapped:
        if len(option) not in (1, 2):
            raise tmpfs.wrong("Options", "a list of [name] or [name, value]")
    return wrapped


def _port_bindings(ports: Fields) -> dict[str, tuple[PublishedPort, ...]]:
    return {
        port: tuple(
            PublishedPort(binding.text("HostIp"), binding.text("HostPort"))
            for binding in ports.each(port)
        )
        for port in ports.names()
    }


def _restart_policy(policy: Fields) -> RestartPolicy:
    return RestartPolicy(policy.text("Name") or "no", policy.integer("MaximumRetryCount"))


def _console_size(fields: Fields) -> tuple[int, int]:
    """Height and width."""
    size = fields.integers("ConsoleSize")
    if not size:
        return 0, 0
    if len(size) != 2 or not all(0 <= length <= 65535 for length in size):
        raise fields.wrong("ConsoleSize", "[height, width]")
    return size[0], size[1]


def _demanded(endpoints: Fields, network: str) -> Fields:
    if network not in endpoints:
        raise InvalidRequest(f"invalid config for network {network}: EndpointsConfig is nil")
    return endpoints.inside(network)


def read_endpoint(endpoint: Fields) -> EndpointSettings:
    addresses = endpoint.inside("IPAMConfig")
    return EndpointSettings(
        aliases=endpoint.texts("Aliases"),
        links=endpoint.texts("Links"),
        ipv4_address=addresses.text("IPv4Address"),
        ipv6_address=addresses.text("IPv6Address"),
        link_local_ips=addresses.texts("LinkLocalIPs"),
        mac_address=endpoint.text("MacAddress"),
        driver_opts=endpoint.text_map("DriverOpts"),
        gateway_priority=endpoint.integer("GwPriority"),
        given=tuple(key for key in EMPTY_OF_ENDPOINT if key in endpoint),
    )


def read_exec(document: Mapping[str, object]) -> ExecConfig:
    body = Fields(document)
    command = body.texts("Cmd")
    if not command:
        raise InvalidRequest("No exec command specified")
    return ExecConfig(
        cmd=command,
        attach_stdin=body.flag("AttachStdin"),
        attach_stdout=body.flag("AttachStdout"),
        attach_stderr=body.flag("AttachStderr"),
        tty=body.flag("Tty"),
        env=body.texts("Env"),
        user=body.text("User"),
        working_dir=body.text("WorkingDir"),
        privileged=body.flag("Privileged"),
        detach_keys=body.text("DetachKeys"),
        console_size=_console_size(body),
    )


def read_exec_start(document: Mapping[str, object]) -> tuple[bool, bool, tuple[int, int]]:
    """Detached, with a terminal, and its size."""
    body = Fields(document)
    return body.flag("Detach"), body.flag("Tty"), _console_size(body)


def read_update(document: Mapping[str, object]) -> ResourceUpdate:
    """0 and "" stand for "leave as it is": the CLI sends every field. KernelMemory is gone from
    Linux, and from Docker: it is passed over."""
    body = Fields(document)
    return ResourceUpdate(
        memory=body.integer("Memory") or None,
        memory_swap=body.integer("MemorySwap") or None,
        memory_reservation=body.integer("MemoryReservation") or None,
        nano_cpus=body.integer("NanoCpus") or None,
        cpu_shares=body.integer("CpuShares") or None,
        cpu_period=body.integer("CpuPeriod") or None,
        cpu_quota=body.integer("CpuQuota") or None,
        cpu_realtime_period=body.integer("CpuRealtimePeriod") or None,
        cpu_realtime_runtime=body.integer("CpuRealtimeRuntime") or None,
        cpuset_cpus=body.text("CpusetCpus") or None,
        cpuset_mems=body.text("CpusetMems") or None,
        pids_limit=body.optional_integer("PidsLimit"),
        blkio_weight=body.integer("BlkioWeight", low=0) or None,
        blkio_weight_device=body.objects("BlkioWeightDevice") or None,
        blkio_device_read_bps=body.objects("BlkioDeviceReadBps") or None,
        blkio_device_write_bps=body.objects("BlkioDeviceWriteBps") or None,
        blkio_device_read_iops=body.objects("BlkioDeviceReadIOps") or None,
        blkio_device_write_iops=body.objects("BlkioDeviceWriteIOps") or None,
        restart_policy=(
            _restart_policy(policy)
            if (policy := body.inside("RestartPolicy")).text("Name")
            else None
        ),
        unset=tuple(_limit_to_unset(name) for name in body.texts("Unset")),
    )


_CAN_BE_UNSET = {
    "CpuPeriod": "cpu_period",
    "CpuQuota": "cpu_quota",
    "CpuShares": "cpu_shares",
    "Memory": "memory",
    "MemoryReservation": "memory_reservation",
    "MemorySwap": "memory_swap",
    "NanoCpus": "nano_cpus",
    "PidsLimit": "pids_limit",
}


def _limit_to_unset(name: str) -> str:
    try:
        return _CAN_BE_UNSET[name]
    except KeyError:
        raise InvalidRequest(
            f"cannot take off the limit {name!r}: one of {', '.join(_CAN_BE_UNSET)} is needed"
        ) from None


def read_network(document: Mapping[str, object]) -> NetworkSpec:
    body = Fields(document)
    ipam = body.inside("IPAM")
    return NetworkSpec(
        name=body.text("Name"),
        driver=body.text("Driver") or "bridge",
        pools=tuple(_pool(pool) for pool in ipam.each("Config")),
        ipam_driver=ipam.text("Driver") or "default",
        ipam_options=ipam.text_map("Options") if "Options" in ipam else None,
        internal=body.flag("Internal"),
        attachable=body.flag("Attachable"),
        ingress=body.flag("Ingress"),
        enable_ipv4=body.flag("EnableIPv4", True),
        enable_ipv6=body.flag("EnableIPv6"),
        options=body.text_map("Options"),
        labels=body.text_map("Labels"),
        scope=body.text("Scope"),
        config_only=body.flag("ConfigOnly"),
        config_from=body.inside("ConfigFrom").text("Network"),
    )


def _pool(pool: Fields) -> AddressPool:
    return AddressPool(
        subnet=pool.text("Subnet"),
        gateway=pool.text("Gateway"),
        ip_range=pool.text("IPRange"),
        auxiliary=pool.text_map("AuxiliaryAddresses"),
    )
