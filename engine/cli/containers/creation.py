"""pure: what was typed for `run` or `create` -> the body of POST /containers/create."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from compose.errors import UsageError
from compose.load.short import BadSyntax, parse_device
from engine.cli.containers import mounts, networking, readers
from engine.cli.containers.flags import CreateFlags, LimitFlags

Body = dict[str, object]
_SECURITY_MARKS = ("no-new-privileges",)


@dataclass(frozen=True, slots=True)
class Here:
    """What an option may refer to on this side. `read` gives a file's text, by its path."""

    directory: str
    environment: Mapping[str, str]
    read: Callable[[str], str]


def make_creation(
    flags: CreateFlags,
    image: str,
    command: Sequence[str],
    here: Here,
    terminal: tuple[int, int] | None = None,
) -> Body:
    """Only what was asked for; the engine knows the defaults. `terminal`: its height and width, if
    it is to have one from the start. Raises UsageError."""
    bindings = networking.published(flags.publish)
    mode, endpoints = networking.networks(flags)
    binds, anonymous = mounts.volumes(flags.volume, here.directory)
    attached = readers.streams(flags.attach, interactive=flags.interactive)
    if flags.rm and flags.restart not in ("", "no"):
        raise UsageError("cannot use --rm with --restart: what is removed doesn't come back")
    body: Body = {
        "Image": image,
        "Cmd": [*command],
        "Entrypoint": None if flags.entrypoint is None else [flags.entrypoint],
        "Hostname": flags.hostname,
        "Domainname": flags.domainname,
        "User": flags.user,
        "WorkingDir": flags.workdir,
        "Tty": flags.tty,
        "OpenStdin": flags.interactive,
        # Whoever attached first takes the input's end with him.
        "StdinOnce": flags.interactive and attached["AttachStdin"],
        **attached,
        "Env": _environment(flags, here),
        "Labels": _labels(flags, here),
        "ExposedPorts": networking.exposed(flags.expose, bindings),
        "Volumes": anonymous,
        "StopSignal": flags.stop_signal,
        "StopTimeout": flags.stop_timeout,
        "Healthcheck": _health(flags),
        "HostConfig": {
            "NetworkMode": mode,
            "PortBindings": bindings,
            "Binds": binds,
            "ConsoleSize": terminal and [*terminal],
            **_host(flags, here),
            **_security(flags.security_opt, here),
            **_resources(flags),
        },
        "NetworkingConfig": {"EndpointsConfig": endpoints} if endpoints else None,
    }
    return _said(body)


# Where 0, false or an empty list says something: None doesn't.
_TELLING = ("StopTimeout", "MemorySwappiness", "Init", "MaskedPaths", "ReadonlyPaths")


def _said(body: Body) -> Body:
    """Without what says nothing."""
    kept: Body = {}
    for key, value in body.items():
        if key == "HostConfig" and isinstance(value, dict):
            kept[key] = _said(value)
        elif value if key not in _TELLING else value is not None:
            kept[key] = value
    return kept


def _host(flags: CreateFlags, here: Here) -> Body:
    added, dropped = readers.capabilities(flags.cap_add, flags.cap_drop)
    if flags.log_driver == "none" and flags.log_opt:
        raise UsageError("cannot use --log-opt with --log-driver none: there is no log")
    return {
        "ContainerIDFile": flags.cidfile,
        "Mounts": [mounts.mount(word, here.directory) for word in flags.mount],
        "Tmpfs": mounts.tmpfs(flags.tmpfs),
        "VolumesFrom": [*flags.volumes_from],
        "VolumeDriver": flags.volume_driver,
        "PublishAllPorts": flags.publish_all,
        "Links": [*flags.link],
        "Dns": [*flags.dns],
        "DnsOptions": [*flags.dns_option],
        "DnsSearch": [*flags.dns_search],
        "ExtraHosts": [readers.extra_host(word) for word in flags.add_host],
        "RestartPolicy": readers.restart_policy(flags.restart),
        "AutoRemove": flags.rm,
        "LogConfig": _said(
            {
                "Type": flags.log_driver,
                "Config": readers.key_values("--log-opt", flags.log_opt, alone=False),
            }
        ),
        "Annotations": readers.key_values("--annotation", flags.annotation, alone=False),
        "CapAdd": added,
        "CapDrop": dropped,
        "GroupAdd": [*flags.group_add],
        "Privileged": flags.privileged,
        "ReadonlyRootfs": flags.read_only,
        "CgroupnsMode": flags.cgroupns,
        "CgroupParent": flags.cgroup_parent,
        "IpcMode": flags.ipc,
        "PidMode": flags.pid,
        "UTSMode": flags.uts,
        "UsernsMode": flags.userns,
        "ShmSize": readers.size("--shm-size", flags.shm_size),
        "Sysctls": readers.key_values("--sysctl", flags.sysctl, alone=False),
        "StorageOpt": readers.key_values("--storage-opt", flags.storage_opt, alone=False),
        "Runtime": flags.runtime,
        "Isolation": flags.isolation,
        "Init": flags.init,
        "OomScoreAdj": flags.oom_score_adj,
    }


def make_limits(flags: LimitFlags) -> Body:
    """What `update` may change, too; 0 and "" leave it as it is."""
    return {
        "BlkioWeight": flags.blkio_weight,
        "CpuPeriod": flags.cpu_period,
        "CpuQuota": flags.cpu_quota,
        "CpuRealtimePeriod": flags.cpu_rt_period,
        "CpuRealtimeRuntime": flags.cpu_rt_runtime,
        "CpuShares": flags.cpu_shares,
        "NanoCpus": readers.processors(flags.cpus),
        "CpusetCpus": flags.cpuset_cpus,
        "CpusetMems": flags.cpuset_mems,
        "Memory": readers.size("--memory", flags.memory),
        "MemoryReservation": readers.size("--memory-reservation", flags.memory_reservation),
        "MemorySwap": readers.size("--memory-swap", flags.memory_swap),
        "PidsLimit": flags.pids_limit,
    }


def _resources(flags: CreateFlags) -> Body:
    if not -1 <= flags.memory_swappiness <= 100:
        raise UsageError(f"cannot use --memory-swappiness {flags.memory_swappiness}: 0 to 100")
    devices, requests = _devices(flags)
    return {
        **make_limits(flags),
        "MemorySwappiness": None if flags.memory_swappiness == -1 else flags.memory_swappiness,
        "OomKillDisable": flags.oom_kill_disable,
        "BlkioWeightDevice": [
            {"Path": path, "Weight": weight}
            for path, weight in _by_device("--blkio-weight-device", flags.blkio_weight_device)
        ],
        **{
            name: [{"Path": path, "Rate": rate} for path, rate in _by_device(option, words)]
            for name, option, words in (
                ("BlkioDeviceReadBps", "--device-read-bps", flags.device_read_bps),
                ("BlkioDeviceWriteBps", "--device-write-bps", flags.device_write_bps),
                ("BlkioDeviceReadIOps", "--device-read-iops", flags.device_read_iops),
                ("BlkioDeviceWriteIOps", "--device-write-iops", flags.device_write_iops),
            )
        },
        "Ulimits": sorted(
            {limit["Name"]: limit for limit in map(readers.ulimit, flags.ulimit)}.values(),
            key=lambda limit: str(limit["Name"]),
        ),
        "Devices": devices,
        "DeviceCgroupRules": [*flags.device_cgroup_rule],
        "DeviceRequests": requests,
    }


def _by_device(option: str, words: Sequence[str]) -> list[tuple[str, int]]:
    """`/dev/sda:10`, `/dev/sda:1mb` where it is a matter of bytes."""
    pairs = []
    for word in words:
        path, colon, value = word.rpartition(":")
        if not colon or not path.startswith("/dev/"):
            raise UsageError(f"cannot use {option} {word!r}: write /dev/NAME:NUMBER")
        if not option.endswith("bps") and not value.isdecimal():
            raise UsageError(f"cannot use {option} {word!r}: {value!r} is no number")
        pairs.append((path, readers.size(option, value)))
    return pairs


def _devices(flags: CreateFlags) -> tuple[list[Body], list[Body]]:
    """Devices by their paths, and requests by what a driver calls them."""
    devices: list[Body] = []
    named: list[str] = []
    for word in flags.device:
        try:
            short = parse_device(word)
        except BadSyntax as error:
            raise UsageError(f"cannot use --device {word!r}: {error.what}") from None
        if "=" in short.source and not short.source.startswith("/"):
            named.append(short.source)
            continue
        target, permissions = short.target, short.permissions
        if set(target) <= set("rwm"):  # `/dev/x:rw`
            target, permissions = short.source, short.target
        if not set(permissions) <= set("rwm"):
            raise UsageError(f"cannot use --device {word!r}: {permissions!r} isn't of rwm")
        devices.append(
            {
                "PathOnHost": short.source,
                "PathInContainer": target,
                "CgroupPermissions": permissions,
            }
        )
    requests: list[Body] = [{"Driver": "cdi", "DeviceIDs": named}] if named else []
    if flags.gpus:
        requests.append(readers.gpus(flags.gpus))
    return devices, requests


def _security(words: Sequence[str], here: Here) -> Body:
    options: list[str] = []
    hidden: Body = {}
    for word in words:
        # The older way to write it has a colon.
        name, sign, value = word.partition("=") if "=" in word else word.partition(":")
        if not sign and word not in _SECURITY_MARKS:
            raise UsageError(f"cannot use --security-opt {word!r}: write NAME=VALUE")
        if name == "systempaths" and value == "unconfined":
            hidden = {"MaskedPaths": [], "ReadonlyPaths": []}
            continue
        if name == "seccomp" and value not in ("unconfined", "builtin"):
            try:
                profile = json.dumps(json.loads(here.read(value)), separators=(",", ":"))
            except ValueError as error:
                raise UsageError(f"cannot use the seccomp profile {value}: {error}") from None
            word = f"seccomp={profile}"
        options.append(word)
    return {"SecurityOpt": options, **hidden}


def _environment(flags: CreateFlags, here: Here) -> list[str]:
    return environment(flags.env, flags.env_file, here)


def environment(words: Sequence[str], files: Sequence[str], here: Here) -> list[str]:
    """The files' first, so that what is said on the command line wins."""
    lines = [
        line
        for file in files
        for line in readers.file_lines(here.read(file), file, here.environment.get)
    ]
    return [*lines, *readers.variables(words, here.environment)]


def _labels(flags: CreateFlags, here: Here) -> dict[str, str]:
    lines = [
        line
        for file in flags.label_file
        for line in readers.file_lines(here.read(file), file, lambda _: None)
    ]
    return readers.key_values("--label", [*lines, *flags.label])


def _health(flags: CreateFlags) -> Body | None:
    check = _said(
        {
            "Test": ["CMD-SHELL", flags.health_cmd] if flags.health_cmd else None,
            "Interval": readers.duration("--health-interval", flags.health_interval),
            "Timeout": readers.duration("--health-timeout", flags.health_timeout),
            "StartPeriod": readers.duration("--health-start-period", flags.health_start_period),
            "StartInterval": readers.duration(
                "--health-start-interval", flags.health_start_interval
            ),
            "Retries": flags.health_retries,
        }
    )
    if flags.health_retries < 0:
        raise UsageError("cannot use --health-retries below 0")
    if flags.no_healthcheck and check:
        raise UsageError("cannot use --no-healthcheck with other options of the health check")
    return {"Test": ["NONE"]} if flags.no_healthcheck else check or None
