"""Pure: a container, its image's rootfs and the machine's facts -> an OCI runtime spec.

What the kernel is told stands here and nowhere else; the order in which it is told is
`runtime/sequence.py`. Defaults are Docker's (runtime-spec words, `config.md`, `config-linux.md`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from engine.containers.checks import parse_security_options
from engine.containers.model import HostConfig, MountPoint, Record
from engine.ids import short_id
from engine.runtime import capabilities, devices, seccomp, seccomp_default, seccomp_profile
from engine.runtime.id_maps import IdMaps

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_SIZE = 64 * 1024 * 1024
DEFAULT_CGROUP_PARENT = "/pycompose"
CPU_PERIOD = 100_000  # microseconds
UNLIMITED = 2**64 - 1  # RLIM_INFINITY

# In Docker's order.
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# AppArmor's, as Docker names it.
DEFAULT_PROFILE = "docker-default"

# The engine's own network namespace has the host's values; a private one gets Docker's.
NETWORK_SYSCTLS = {
    "net.ipv4.ip_unprivileged_port_start": "0",
    "net.ipv4.ping_group_range": "0 2147483647",
}


@dataclass(frozen=True, slots=True)
class HostDevice:
    """A device of the host as the container gets it."""

    node: devices.Device
    access: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What spec and checks need to know of this machine."""

    cpus: int
    bounding: tuple[str, ...]  # capabilities that the engine itself may hand on
    kernel: tuple[int, int]
    ids: IdMaps | None = None  # of containers whose users are remapped
    thermal_paths: tuple[str, ...] = ()  # existing /sys/devices/system/cpu/cpuN/thermal_throttle
    has_apparmor: bool = False
    memory_nodes: int = 1
    has_default_profile: bool = False  # somebody, as a rule Docker, has loaded it


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What was found out for this one start."""

    mounts: Sequence[Mapping[str, object]]  # OCI mounts of volumes, binds, tmpfs, in order
    network_path: str | None = None  # a namespace to join, "" = the host's, None = a new one
    pid_path: str | None = None
    host_devices: tuple[HostDevice, ...] = field(default=())
    linked: tuple[tuple[str, str], ...] = ()  # variables that tell of links
    ipc_pid: int = 0  # of the process whose IPC namespace and /dev/shm are shared
    user_pid: int = 0  # of the process whose user namespace is shared, if users are remapped


def make_spec(record: Record, machine: Machine, around: Surroundings) -> dict[str, object]:
    host, config = record.host, record.config
    spec: dict[str, object] = {
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs", "readonly": host.readonly_rootfs},
        "process": _process(record, machine, around),
        "mounts": [*_mounts(record, around, id_maps(host, machine))],
        "linux": _linux(record, machine, around),
        "annotations": dict(host.annotations),
    }
    if host.uts_mode != "host":
        spec["hostname"] = config.hostname
        if config.domainname:
            spec["domainname"] = config.domainname
    return spec


def id_maps(host: HostConfig, machine: Machine) -> IdMaps | None:
    """None: the container's users are the host's."""
    return None if host.userns_mode == "host" else machine.ids


def with_ids(mount: Mapping[str, object], ids: IdMaps | None) -> Mapping[str, object]:
    """A bind of files that are the container's: on disk they have the ids of inside."""
    return mount if ids is None else {**mount, **ids.to_oci()}


def capability_names(
    host: HostConfig, machine: Machine, *, privileged: bool | None = None
) -> tuple[str, ...]:
    """`privileged`: of an exec that may be more so than its container."""
    chosen = host.privileged if privileged is None else privileged
    return _effective(host.cap_add, host.cap_drop, chosen, machine.bounding)


_effective = lru_cache(maxsize=64)(capabilities.effective)  # four times in each life


def seccomp_filter(host: HostConfig, machine: Machine) -> bytes:
    """b"" = unconfined. A profile that can't be read is an error, never "no filter"."""
    wanted = parse_security_options(host.security_opt).get("seccomp", "")
    if wanted == "unconfined" or (host.privileged and not wanted):
        return b""
    names = capability_names(host, machine)
    return _compiled(wanted, frozenset(names), machine.kernel)


def seccomp_warnings(host: HostConfig) -> tuple[str, ...]:
    wanted = parse_security_options(host.security_opt).get("seccomp", "")
    if wanted in ("", "builtin", "unconfined") or not (missed := _profile(wanted).missed):
        return ()
    return (f"seccomp profile: unknown system calls are not forbidden: {', '.join(missed)}",)


@lru_cache(maxsize=64)
def _compiled(profile: str, names: frozenset[str], kernel: tuple[int, int]) -> bytes:
    return seccomp.compile_filter(_profile(profile), names, kernel=kernel)


def _profile(wanted: str) -> seccomp_profile.Profile:
    if wanted in ("", "builtin"):
        return seccomp_default.default_profile()
    return seccomp_profile.parse_profile(wanted)


def capability_sets(names: Sequence[str]) -> dict[str, list[str]]:
    """Inheritable and ambient stay empty (CVE-2022-24769)."""
    return {
        "bounding": list(names),
        "effective": list(names),
        "permitted": list(names),
        "inheritable": [],
        "ambient": [],
    }


def _process(record: Record, machine: Machine, around: Surroundings) -> dict[str, object]:
    host, config = record.host, record.config
    process: dict[str, object] = {
        "terminal": config.tty,
        "user": {"uid": 0, "gid": 0},  # `LaunchRequest.user` decides, in the container's own files
        "args": [record.path, *record.args],
        "env": environment(record, linked=around.linked),
        "cwd": config.working_dir or "/",
        "capabilities": capability_sets(capability_names(host, machine)),
        "rlimits": rlimits(host),
        "noNewPrivileges": has_no_new_privileges(host),
        "oomScoreAdj": host.oom_score_adj,
        "apparmorProfile": apparmor_profile(host, machine, privileged=host.privileged),
    }
    if config.tty and any(host.console_size):
        process["consoleSize"] = {"height": host.console_size[0], "width": host.console_size[1]}
    return process


def has_no_new_privileges(host: HostConfig) -> bool:
    return parse_security_options(host.security_opt).get("no-new-privileges") == "true"


def apparmor_profile(host: HostConfig, machine: Machine, *, privileged: bool) -> str:
    """ "" = as the engine itself: where the kernel has no AppArmor, or was not to use it."""
    asked = parse_security_options(host.security_opt).get("apparmor", "")
    if not machine.has_apparmor or asked == "unconfined":
        return ""
    if asked or privileged or not machine.has_default_profile:
        return asked
    return DEFAULT_PROFILE


def environment(
    record: Record,
    extra: Iterable[str] = (),
    *,
    tty: bool | None = None,
    linked: Iterable[tuple[str, str]] = (),
) -> list[str]:
    """PATH, HOSTNAME and TERM, those of links, then the container's and the extra variables, which
    win.

    HOME is added by the process itself, which knows its user."""
    variables = {"PATH": DEFAULT_PATH, **dict(linked)}
    if record.config.hostname:
        variables["HOSTNAME"] = record.config.hostname
    if record.config.tty if tty is None else tty:
        variables["TERM"] = "xterm"
    for entry in (*record.config.env, *extra):
        name, separator, value = entry.partition("=")
        if separator:
            variables[name] = value
        else:
            # `-e NAME` without a value: the variable goes.
            variables.pop(name, None)
    return [f"{name}={value}" for name, value in variables.items()]


def rlimits(host: HostConfig) -> list[dict[str, object]]:
    return [
        {
            "type": f"RLIMIT_{ulimit.name.upper()}",
            "soft": UNLIMITED if ulimit.soft == -1 else ulimit.soft,
            "hard": UNLIMITED if ulimit.hard == -1 else ulimit.hard,
        }
        for ulimit in host.ulimits
    ]


def _mounts(
    record: Record, around: Surroundings, ids: IdMaps | None
) -> Iterable[Mapping[str, object]]:
    taken = {mount["destination"] for mount in around.mounts}
    files = [with_ids(mount, ids) for mount in _file_mounts(record)]
    # In what is mounted at /etc, names resolve all the same.
    below = [mount for mount in around.mounts if mount["destination"] == "/etc"]
    for mount in (*_system_mounts(record.host, around.ipc_pid), *below, *files):
        if mount["destination"] not in taken or mount in below:
            yield mount
    yield from (mount for mount in around.mounts if mount not in below)


def _system_mounts(host: HostConfig, ipc_pid: int) -> Iterable[dict[str, object]]:
    hardened = ["nosuid", "noexec", "nodev"]
    access = "rw" if host.privileged else "ro"
    options = parse_security_options(host.security_opt)
    cgroup_access = "rw" if options.get("writable-cgroups") == "true" else access
    yield _mount("/proc", "proc", "proc", hardened)
    yield _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"])
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    yield _mount("/dev/pts", "devpts", "devpts", pts)
    yield _mount("/sys", "sysfs", "sysfs", [*hardened, access])
    yield _mount("/sys/fs/cgroup", "cgroup", "cgroup", [cgroup_access, *hardened])
    # Each IPC namespace has one: mounted from the host's, it shows the host's queues.
    yield _mount("/dev/mqueue", "mqueue", "mqueue", hardened)
    if host.ipc_mode == "host":
        yield _mount("/dev/shm", "bind", "/dev/shm", ["rbind", *hardened])
    elif ipc_pid:
        shared = _mount("/dev/shm", "bind", "/dev/shm", ["bind", *hardened])
        yield {**shared, "namespace": f"/proc/{ipc_pid}/ns/mnt"}
    elif host.ipc_mode != "none":
        size = host.shm_size or DEFAULT_SHM_SIZE
        yield _mount("/dev/shm", "tmpfs", "shm", [*hardened, "mode=1777", f"size={size}"])


def _file_mounts(record: Record) -> Iterable[dict[str, object]]:
    """--read-only covers them too: a process must not rewrite where names resolve to."""
    access = ["ro"] if record.host.readonly_rootfs else []
    for destination, source in (
        ("/etc/resolv.conf", record.resolv_conf_path),
        ("/etc/hostname", record.hostname_path),
        ("/etc/hosts", record.hosts_path),
    ):
        if source:
            yield _mount(destination, "bind", source, ["rbind", "rprivate", *access])


def _mount(destination: str, kind: str, source: str, options: Sequence[str]) -> dict[str, object]:
    return {
        "destination": destination,
        "type": kind,
        "source": source,
        "options": list(options),
    }


def bind_mount(point: MountPoint, source: str) -> dict[str, object]:
    options = ["rbind" if point.recursive else "bind"]
    if point.read_only:
        # `ro` alone leaves what is mounted below writable (runtime-spec: `rro` is recursive).
        recursive = point.recursive and point.recursive_read_only
        options.append("rro" if recursive else "ro")
    options.append(point.propagation or "rprivate")
    entry = _mount(point.destination, "bind", source, options)
    return {**entry, "subpath": point.subpath} if point.subpath else entry


def image_mount(point: MountPoint, layers: Sequence[str]) -> dict[str, object]:
    entry = _mount(point.destination, "image", point.source, ["ro"])
    return {**entry, "layers": list(layers), "subpath": point.subpath}


def tmpfs_mount(destination: str, options: Sequence[str], *, read_only: bool) -> dict[str, object]:
    defaults = ["nosuid", "nodev", "noexec"]
    undone = {"suid": "nosuid", "dev": "nodev", "exec": "noexec"}
    for option in options:
        if option in undone:
            defaults.remove(undone[option])
    given = [option for option in options if option not in undone and option not in defaults]
    if read_only and "ro" not in given:
        given.append("ro")
    return _mount(destination, "tmpfs", "tmpfs", [*defaults, *given])


def _linux(record: Record, machine: Machine, around: Surroundings) -> dict[str, object]:
    host = record.host
    linux: dict[str, object] = {
        "namespaces": _namespaces(host, machine, around),
        "maskedPaths": list(masked_paths(host, machine)),
        "readonlyPaths": list(readonly_paths(host)),
        "cgroupsPath": cgroup_path(record),
        "resources": resources(host, around.host_devices),
        "devices": [device.node.to_oci() for device in around.host_devices],
        "sysctl": _sysctls(host, around),
    }
    if (ids := id_maps(host, machine)) is not None:
        linux |= ids.to_oci()
    propagations = {
        mount.propagation for mount in record.mounts if mount.propagation.endswith("shared")
    }
    slaves = {mount.propagation for mount in record.mounts if mount.propagation.endswith("slave")}
    if propagations:
        linux["rootfsPropagation"] = "shared"
    elif slaves:
        linux["rootfsPropagation"] = "rslave"
    return linux


def cgroup_path(record: Record) -> str:
    parent = record.host.cgroup_parent or DEFAULT_CGROUP_PARENT
    return f"/{parent.strip('/')}/{record.id}"


def _namespaces(host: HostConfig, machine: Machine, around: Surroundings) -> list[dict[str, str]]:
    found = [{"type": "mount"}]
    for kind, path in (("network", around.network_path), ("pid", around.pid_path)):
        if path is None:
            found.append({"type": kind})
        elif path:
            found.append({"type": kind, "path": path})
    if around.ipc_pid:
        found.append({"type": "ipc", "path": f"/proc/{around.ipc_pid}/ns/ipc"})
    elif host.ipc_mode != "host":
        found.append({"type": "ipc"})
    if host.uts_mode != "host":
        found.append({"type": "uts"})
    if host.cgroupns_mode != "host":
        found.append({"type": "cgroup"})
    if id_maps(host, machine) is not None:
        path = f"/proc/{around.user_pid}/ns/user"
        found.append({"type": "user", "path": path} if around.user_pid else {"type": "user"})
    return found


def _has_open_paths(host: HostConfig) -> bool:
    options = parse_security_options(host.security_opt)
    return host.privileged or options.get("systempaths") == "unconfined"


def masked_paths(host: HostConfig, machine: Machine) -> tuple[str, ...]:
    if host.masked_paths is not None:
        return host.masked_paths
    return () if _has_open_paths(host) else (*MASKED_PATHS, *machine.thermal_paths)


def readonly_paths(host: HostConfig) -> tuple[str, ...]:
    if host.readonly_paths is not None:
        return host.readonly_paths
    return () if _has_open_paths(host) else READONLY_PATHS


def _sysctls(host: HostConfig, around: Surroundings) -> dict[str, str]:
    private = around.network_path is None
    return {**(NETWORK_SYSCTLS if private else {}), **host.sysctls}


def resources(host: HostConfig, host_devices: Sequence[HostDevice]) -> dict[str, object]:
    found: dict[str, object] = {"devices": _device_rules(host, host_devices)}
    for name, section in (
        ("memory", memory_limits(host)),
        ("cpu", cpu_limits(host)),
        ("blockIO", _block_io(host)),
    ):
        if section:
            found[name] = section
    if host.pids_limit:
        found["pids"] = {"limit": host.pids_limit}
    return found


def _device_rules(host: HostConfig, host_devices: Sequence[HostDevice]) -> list[dict[str, object]]:
    if host.privileged:
        return [devices.ALLOW_ALL.to_oci()]
    extra = [devices.parse_rule(text) for text in host.device_cgroup_rules]
    given = [(device.node, device.access) for device in host_devices]
    return [rule.to_oci() for rule in devices.rules(given, extra)]


def memory_limits(host: HostConfig) -> dict[str, object]:
    swappiness = host.memory_swappiness
    return _given(
        limit=host.memory,
        swap=host.memory_swap,
        reservation=host.memory_reservation,
        kernelTCP=host.kernel_memory_tcp,
        swappiness=None if swappiness == -1 else swappiness,
        disableOOMKiller=host.oom_kill_disable,
        keep=("swappiness",),
    )


def cpu_limits(host: HostConfig) -> dict[str, object]:
    period, quota = host.cpu_period, host.cpu_quota
    if host.nano_cpus:
        period, quota = CPU_PERIOD, host.nano_cpus * CPU_PERIOD // 1_000_000_000
    return _given(
        shares=host.cpu_shares,
        period=period,
        quota=quota,
        cpus=host.cpuset_cpus,
        mems=host.cpuset_mems,
        realtimePeriod=host.cpu_realtime_period,
        realtimeRuntime=host.cpu_realtime_runtime,
    )


def _given(*, keep: Sequence[str] = (), **values: object) -> dict[str, object]:
    """What was set: 0 and "" mean unset, but for those in `keep`, where only None does."""
    return {
        name: value
        for name, value in values.items()
        if value is not None and (value or name in keep)
    }


def _block_io(host: HostConfig) -> dict[str, object]:
    return _given(
        weight=host.blkio_weight,
        weightDevice=list(host.blkio_weight_device),
        throttleReadBpsDevice=list(host.blkio_device_read_bps),
        throttleWriteBpsDevice=list(host.blkio_device_write_bps),
        throttleReadIOPSDevice=list(host.blkio_device_read_iops),
        throttleWriteIOPSDevice=list(host.blkio_device_write_iops),
    )


def default_hostname(container_id: str) -> str:
    return short_id(container_id)
