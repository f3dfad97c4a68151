"""What a container is: what was asked for, what was decided, and the state it is in.

All values are frozen; a change makes a new `Record`. Durations are nanoseconds and sizes bytes,
as in the Engine API. What this engine can't do is still kept here, so that it is refused aloud.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from engine.networks.model import Endpoint, PortBinding

# Of HostConfig.Runtime. There is one; clients that name Docker's, by either of its names, get it.
RUNTIMES = ("pyengine", "runc", "io.containerd.runc.v2")


class Status(Enum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"  # down, waiting for its restart policy's delay
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"  # could not be removed completely

    @property
    def is_up(self) -> bool:
        """A process exists: running or paused."""
        return self in (Status.RUNNING, Status.PAUSED)


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """A zero duration or None means: inherit from the image, and then Docker's default."""

    test: tuple[str, ...] = ()  # ("NONE",), ("CMD", ...), ("CMD-SHELL", text); empty = inherit
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """The part that would also fit another machine (the API's `Config`).

    In a request, None stands for "not given"; in a Record the image's values are merged in.
    """

    image: str = ""
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None  # ("",) or () in a request: no entrypoint
    healthcheck: HealthCheck | None = None
    volumes: tuple[str, ...] = ()  # destinations of anonymous volumes
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None  # seconds; None = 10, -1 = for ever
    shell: tuple[str, ...] | None = None
    on_build: tuple[str, ...] | None = None
    network_disabled: bool = False
    mac_address: str = ""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    name: str = "no"  # "no", "always", "unless-stopped", "on-failure"
    maximum_retry_count: int = 0


@dataclass(frozen=True, slots=True)
class LogConfig:
    driver: str = "json-file"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One entry of the API's `HostConfig.Mounts`."""

    type: str  # "bind", "volume", "tmpfs", "image"; others are refused
    target: str
    source: str = ""
    read_only: bool = False
    consistency: str = ""
    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False  # bind: make a missing source
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False
    no_copy: bool = False
    subpath: str = ""
    volume_labels: Mapping[str, str] = field(default_factory=dict)
    volume_driver: str = ""
    volume_driver_options: Mapping[str, str] = field(default_factory=dict)
    tmpfs_size: int = 0
    tmpfs_mode: int = 0
    tmpfs_options: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """One wanted host port, a value of `PortBindings`. `host_port` may be a range or empty."""

    host_ip: str = ""
    host_port: str = ""


@dataclass(frozen=True, slots=True)
class Ulimit:
    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Device:
    path_on_host: str
    path_in_container: str
    cgroup_permissions: str = "rwm"


@dataclass(frozen=True, slots=True)
class HostConfig:
    """The part that belongs to this host (the API's `HostConfig`)."""

    binds: tuple[str, ...] = ()  # "source:target[:options]"
    mounts: tuple[MountRequest, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    volumes_from: tuple[str, ...] = ()
    volume_driver: str = ""
    container_id_file: str = ""
    network_mode: str = "default"
    port_bindings: Mapping[str, tuple[PublishedPort, ...]] = field(default_factory=dict)
    publish_all_ports: bool = False
    links: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    restart_policy: RestartPolicy = RestartPolicy()
    auto_remove: bool = False
    log_config: LogConfig = LogConfig()
    console_size: tuple[int, int] = (0, 0)  # height, width
    annotations: Mapping[str, str] = field(default_factory=dict)
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    privileged: bool = False
    readonly_rootfs: bool = False
    security_opt: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] | None = None  # None = the default list
    readonly_paths: tuple[str, ...] | None = None
    cgroupns_mode: str = ""  # "", "private", "host"
    ipc_mode: str = ""  # "", "private", "shareable", "host", "none", "container:X"
    pid_mode: str = ""
    uts_mode: str = ""
    userns_mode: str = ""
    sysctls: Mapping[str, str] = field(default_factory=dict)
    shm_size: int = 0
    storage_opt: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    isolation: str = ""
    init: bool | None = None
    oom_score_adj: int = 0
    cgroup: str = ""
    cgroup_parent: str = ""
    memory: int = 0
    memory_swap: int = 0  # memory + swap; -1 = unlimited
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    kernel_memory_tcp: int = 0
    oom_kill_disable: bool | None = None
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    blkio_weight: int = 0
    blkio_weight_device: tuple[Mapping[str, object], ...] = ()
    blkio_device_read_bps: tuple[Mapping[str, object], ...] = ()
    blkio_device_write_bps: tuple[Mapping[str, object], ...] = ()
    blkio_device_read_iops: tuple[Mapping[str, object], ...] = ()
    blkio_device_write_iops: tuple[Mapping[str, object], ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    devices: tuple[Device, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    device_requests: tuple[Mapping[str, object], ...] = ()
    # Keys of the API that were given as [] or {}: inspect shows them so, the others as null.
    given_empty: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What was asked of a container's place in one network."""

    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gateway_priority: int = 0
    given: tuple[str, ...] = ()  # fields of the request that an inspect shows even if empty


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place in one network; the endpoint exists from start to stop only."""

    network: str  # name or id as given, the name once resolved
    settings: EndpointSettings = EndpointSettings()
    network_id: str = ""  # known from the first start on
    endpoint: Endpoint | None = None
    dns_names: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()  # of its last endpoint


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount as decided at create: what inspect shows and the spec is made of."""

    type: str  # "bind", "volume", "tmpfs", "image"
    destination: str
    source: str = ""  # host path; for a volume its mountpoint, for an image its id
    name: str = ""  # of the volume
    driver: str = ""
    mode: str = ""  # the options of a bind string, as given
    read_only: bool = False
    propagation: str = ""
    subpath: str = ""
    no_copy: bool = False
    anonymous: bool = False  # a volume that goes with `remove(volumes=True)` or auto-remove
    recursive: bool = True  # bind: rbind
    recursive_read_only: bool = True
    options: tuple[str, ...] = ()  # tmpfs: "size=..", "mode=.."
    create_source: bool = False  # bind of HostConfig.Mounts: make a missing source
    from_mounts: bool = False  # asked for in HostConfig.Mounts (inspect says Mode "z" or "")


@dataclass(frozen=True, slots=True)
class PlacedFile:
    """A file whose content the engine was given with the request: a config, a secret. The content
    is in no record, so it is in nothing that shows one."""

    target: str
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class HealthResult:
    start: int  # nanoseconds since the epoch
    end: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class HealthState:
    status: str  # "starting", "healthy", "unhealthy"
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()  # the last five, oldest first


@dataclass(frozen=True, slots=True)
class State:
    status: Status = Status.CREATED
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started_at: int = 0  # nanoseconds since the epoch, 0 = never
    started_clock: int = 0  # of the machine's uptime, for durations: it goes on when time is set
    finished_at: int = 0
    health: HealthState | None = None
    stopped_by_user: bool = False  # `unless-stopped` and `always` respect it across restarts


@dataclass(frozen=True, slots=True)
class Record:
    """A container, whole: what is on disk, and what inspect is made from."""

    id: str
    name: str  # without the slash
    created: int  # nanoseconds since the epoch
    config: ContainerConfig
    host: HostConfig
    image_id: str  # sha256:...
    path: str  # what is executed, and its arguments
    args: tuple[str, ...]
    mounts: tuple[MountPoint, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    ports: tuple[PortBinding, ...] = ()  # published now; empty while down
    state: State = State()
    restart_count: int = 0
    log_path: str = ""  # "" = nothing is written (driver none)
    hostname_path: str = ""
    hosts_path: str = ""
    resolv_conf_path: str = ""
    boot_id: str = ""  # of the boot in which it last started
    exec_ids: tuple[str, ...] = ()  # running ones; not on disk
    files: tuple[PlacedFile, ...] = ()  # their contents: `contents`


@dataclass(frozen=True, slots=True)
class CreateRequest:
    config: ContainerConfig
    host: HostConfig = HostConfig()
    endpoints: Mapping[str, EndpointSettings] = field(default_factory=dict)
    name: str = ""  # "" = make one up
    platform: str = ""  # that the image has to be for, as in "linux/arm64"; "" = any
    files: Mapping[PlacedFile, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Created:
    id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecConfig:
    cmd: tuple[str, ...]
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    tty: bool = False
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    privileged: bool = False
    detach_keys: str = ""
    console_size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class ExecInstance:
    id: str
    container_id: str
    config: ExecConfig
    running: bool = False
    exit_code: int | None = None
    pid: int = 0
    can_remove: bool = False


@dataclass(frozen=True, slots=True)
class WaitResult:
    status_code: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Processes:
    """The answer of `top`."""

    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Pruned:
    deleted: tuple[str, ...]
    space_reclaimed: int


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs from the image. kind: 0 modified, 1 added, 2 deleted."""

    path: str
    kind: int


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines `logs` yields. Times are nanoseconds since the epoch, 0 = no bound."""

    stdout: bool = True
    stderr: bool = True
    follow: bool = False
    timestamps: bool = False
    details: bool = False  # what the driver noted beside each line
    since: int = 0
    until: int = 0
    tail: int | None = None  # None = all


@dataclass(frozen=True, slots=True)
class ResourceUpdate:
    """The limits that `update` changes; None = leave as it is. Docker has no word for taking one
    off; pycompose's own is `unset`."""

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_realtime_period: int | None = None
    cpu_realtime_runtime: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None  # 0 or less = none
    blkio_weight: int | None = None
    blkio_weight_device: tuple[Mapping[str, object], ...] | None = None
    blkio_device_read_bps: tuple[Mapping[str, object], ...] | None = None
    blkio_device_write_bps: tuple[Mapping[str, object], ...] | None = None
    blkio_device_read_iops: tuple[Mapping[str, object], ...] | None = None
    blkio_device_write_iops: tuple[Mapping[str, object], ...] | None = None
    restart_policy: RestartPolicy | None = None
    unset: tuple[str, ...] = ()  # limits that are taken off
