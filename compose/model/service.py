"""One service: all that its containers are made from. Fields are in the canonical order."""

from collections.abc import Callable, Mapping
from dataclasses import field
from enum import StrEnum
from functools import partial
from itertools import compress
from operator import attrgetter

from compose.dataclass import dataclass
from compose.model.build import Build, Ulimit, host_lines
from compose.model.deploy import Deploy, DeviceRequest
from compose.model.document import Document, documents, filled, mapping, number
from compose.model.health import HealthCheck
from compose.model.mount import FileReference, Mount
from compose.model.port import Port
from compose.model.units import Bytes, Duration, format_duration


class Condition(StrEnum):
    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


@dataclass(frozen=True, slots=True)
class Dependency:
    """An edge of `depends_on`, written or implied (links, volumes_from, pid: service:x)."""

    service: str
    condition: Condition = Condition.STARTED
    restart: bool = False
    required: bool = True

    def to_document(self) -> Document:
        document = filled(condition=str(self.condition), restart=self.restart)
        document["required"] = self.required
        return document


@dataclass(frozen=True, slots=True)
class Hook:
    """A command around a container's life: pre_start, post_start, pre_stop, or a watch rule's."""

    command: tuple[str, ...] | None = None
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    image: str = ""  # pre_start only
    per_replica: bool = False  # pre_start only

    def to_document(self) -> Document:
        document: Document = {"command": None if self.command is None else list(self.command)}
        return document | filled(
            image=self.image,
            user=self.user,
            privileged=self.privileged,
            working_dir=self.working_dir,
            environment=mapping(self.environment),
            per_replica=self.per_replica,
        )


class WatchAction(StrEnum):
    REBUILD = "rebuild"
    SYNC = "sync"
    RESTART = "restart"
    SYNC_RESTART = "sync+restart"
    SYNC_EXEC = "sync+exec"


@dataclass(frozen=True, slots=True)
class WatchRule:
    """One entry of `develop.watch`."""

    path: str  # absolute, symbolic links resolved
    action: WatchAction
    target: str = ""
    exec: Hook = field(default_factory=Hook)
    include: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    initial_sync: bool = False
    former_initial_sync: bool = False  # x-initialSync, what it was called while it was tried out

    @property
    def syncs_first(self) -> bool:
        return self.initial_sync or self.former_initial_sync

    def to_document(self) -> Document:
        return (
            {"path": self.path, "action": str(self.action)}
            | filled(target=self.target)
            | {"exec": self.exec.to_document()}
            | filled(
                include=list(self.include),
                ignore=list(self.ignore),
                initial_sync=self.initial_sync,
            )
        )


@dataclass(frozen=True, slots=True)
class Attachment:
    """How a service takes part in one network."""

    aliases: tuple[str, ...] = ()
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    gw_priority: int = 0
    interface_name: str = ""
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    priority: int = 0
    is_mapping: bool = False  # written as one, be it empty: null and {} are shown as they are

    def to_document(self) -> Document | None:
        return filled(
            aliases=list(self.aliases),
            driver_opts=mapping(self.driver_opts),
            gw_priority=self.gw_priority,
            interface_name=self.interface_name,
            ipv4_address=self.ipv4_address,
            ipv6_address=self.ipv6_address,
            link_local_ips=list(self.link_local_ips),
            mac_address=self.mac_address,
            priority=self.priority,
        ) or ({} if self.is_mapping else None)


@dataclass(frozen=True, slots=True)
class Logging:
    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(driver=self.driver, options=mapping(self.options))


@dataclass(frozen=True, slots=True)
class Device:
    source: str  # a path of the host, or a CDI name: vendor/class=name
    target: str = ""
    permissions: str = "rwm"

    @property
    def is_cdi(self) -> bool:
        return not self.source.startswith("/") and "=" in self.source

    def to_document(self) -> Document:
        return filled(source=self.source, target=self.target, permissions=self.permissions)


@dataclass(frozen=True, slots=True)
class ThrottleDevice:
    path: str
    rate: int

    def to_document(self) -> Document:
        return {"Path": self.path, "Rate": str(self.rate)}


@dataclass(frozen=True, slots=True)
class WeightDevice:
    path: str
    weight: int

    def to_document(self) -> Document:
        return {"Path": self.path, "Weight": self.weight}


@dataclass(frozen=True, slots=True)
class BlkioConfig:
    weight: int = 0
    weight_device: tuple[WeightDevice, ...] = ()
    device_read_bps: tuple[ThrottleDevice, ...] = ()
    device_read_iops: tuple[ThrottleDevice, ...] = ()
    device_write_bps: tuple[ThrottleDevice, ...] = ()
    device_write_iops: tuple[ThrottleDevice, ...] = ()

    def to_document(self) -> Document:
        return filled(
            weight=self.weight,
            weight_device=documents(self.weight_device),
            device_read_bps=documents(self.device_read_bps),
            device_read_iops=documents(self.device_read_iops),
            device_write_bps=documents(self.device_write_bps),
            device_write_iops=documents(self.device_write_iops),
        )


@dataclass(frozen=True, slots=True)
class Provider:
    """An external program that runs the service."""

    type: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(type=self.type, options=mapping(self.options, list))


@dataclass(frozen=True, slots=True)
class CredentialSpec:
    config: str = ""
    file: str = ""
    registry: str = ""

    def to_document(self) -> Document:
        return filled(config=self.config, file=self.file, registry=self.registry)


@dataclass(frozen=True, slots=True)
class ModelBinding:
    endpoint_var: str = ""
    model_var: str = ""

    def to_document(self) -> Document | None:
        return filled(endpoint_var=self.endpoint_var, model_var=self.model_var) or None


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    profiles: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    attach: bool | None = None
    build: Build | None = None
    watch: tuple[WatchRule, ...] | None = None  # develop.watch
    blkio_config: BlkioConfig | None = None
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    cgroup_parent: str = ""
    cgroup: str = ""
    cpu_count: int = 0
    cpu_percent: float = 0.0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    cpus: float = 0.0
    cpuset: str = ""
    cpu_shares: int = 0
    command: tuple[str, ...] | None = None  # None: the image's; (): none
    configs: tuple[FileReference, ...] = ()
    container_name: str = ""
    credential_spec: CredentialSpec | None = None
    depends_on: Mapping[str, Dependency] = field(default_factory=dict)
    deploy: Deploy | None = None
    device_cgroup_rules: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    dns: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    domainname: str = ""
    entrypoint: tuple[str, ...] | None = None
    provider: Provider | None = None
    provided: tuple[str, ...] = ()  # variables that another's provider has set: not in the files
    environment: Mapping[str, str | None] = field(default_factory=dict)  # final: env_file folded in
    expose: tuple[str, ...] = ()
    external_links: tuple[str, ...] = ()
    extra_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group_add: tuple[str, ...] = ()
    gpus: tuple[DeviceRequest, ...] = ()
    hostname: str = ""
    healthcheck: HealthCheck | None = None
    image: str = ""
    init: bool | None = None
    ipc: str = ""
    isolation: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)  # label_file folded in
    label_file: tuple[str, ...] = ()  # absolute; Docker Compose counts them in its hash
    links: tuple[str, ...] = ()
    logging: Logging | None = None
    mem_limit: Bytes | None = None
    mem_reservation: Bytes | None = None
    memswap_limit: Bytes | None = None  # -1: unlimited
    mem_swappiness: int | None = None
    mac_address: str = ""
    models: Mapping[str, ModelBinding] = field(default_factory=dict)
    network_mode: str = ""
    networks: Mapping[str, Attachment] = field(default_factory=dict)
    oom_kill_disable: bool = False
    oom_score_adj: int = 0
    pid: str = ""
    pids_limit: int = 0
    platform: str = ""
    ports: tuple[Port, ...] = ()
    privileged: bool = False
    pull_policy: str = ""
    pull_refresh_after: str = ""
    read_only: bool = False
    restart: str = ""
    runtime: str = ""
    scale: int | None = None
    secrets: tuple[FileReference, ...] = ()
    security_opt: tuple[str, ...] = ()
    shm_size: Bytes | None = None
    stdin_open: bool = False
    stop_grace_period: Duration | None = None
    stop_signal: str = ""
    storage_opt: Mapping[str, str] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)
    tmpfs: tuple[str, ...] = ()
    tty: bool = False
    ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    use_api_socket: bool = False
    user: str = ""
    userns_mode: str = ""
    uts: str = ""
    volumes: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    working_dir: str = ""
    pre_start: tuple[Hook, ...] = ()
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    extensions: Mapping[str, object] = field(default_factory=dict)  # x-*, plain JSON data

    @property
    def replicas(self) -> int:
        """How many containers the files ask for."""
        if self.scale is not None:
            return self.scale
        if self.deploy is not None and self.deploy.replicas is not None:
            return self.deploy.replicas
        return 1

    def networks_by_priority(self) -> tuple[str, ...]:
        """In the order in which a container is connected."""
        return tuple(sorted(self.networks, key=lambda key: (-self.networks[key].priority, key)))

    def to_document(self) -> Document:
        values = _written_values(self)
        # Of some eighty a service has a handful: no loop of ours goes over all of them.
        places = [*compress(_PLACES, values), *(at for at in _SHOWN_PLACES if not values[at])]
        document: Document = {}
        for place in sorted(places):
            (key, form), value = _FORMS[place], values[place]
            if value is None:
                if key in _SHOWN_AS_NULL:
                    document[key] = None
            elif (written := form(value)) or place in _SHOWN_PLACES:
                document[key] = written
        return document


def _develop(rules: tuple[WatchRule, ...]) -> Document:
    return filled(watch=documents(rules))


def _plainly(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return mapping(value) if isinstance(value, Mapping) else value


# Fields of the canonical form, in its order, and how those are written that aren't plain values.
_WRITTEN = [
    name for name in Service.__dataclass_fields__ if name not in ("name", "provided", "extensions")
]
_SPECIAL: dict[str, Callable[..., object]] = {
    "build": Build.to_document,
    "watch": _develop,
    "blkio_config": BlkioConfig.to_document,
    "cpu_percent": number,
    "cpus": number,
    "configs": documents,
    "credential_spec": CredentialSpec.to_document,
    "depends_on": partial(mapping, each=Dependency.to_document),
    "deploy": Deploy.to_document,
    "devices": documents,
    "provider": Provider.to_document,
    "extra_hosts": host_lines,
    "gpus": documents,
    "healthcheck": HealthCheck.to_document,
    "logging": Logging.to_document,
    "mem_limit": str,
    "mem_reservation": str,
    "memswap_limit": str,
    "mem_swappiness": str,
    "models": partial(mapping, each=ModelBinding.to_document),
    "networks": partial(mapping, each=Attachment.to_document),
    "ports": documents,
    "secrets": documents,
    "shm_size": str,
    "stop_grace_period": format_duration,
    "ulimits": partial(mapping, each=Ulimit.to_document),
    "volumes": documents,
    "pre_start": documents,
    "post_start": documents,
    "pre_stop": documents,
}
# Those that show what is empty, zero or false, where it was written; and null, for the image's own.
_SHOWN = ("attach", "build", "command", "entrypoint", "healthcheck", "init", "logging", "scale",
          "stop_grace_period", "watch")  # fmt: skip
_SHOWN_AS_NULL = ("command", "entrypoint")
_FORMS = [
    ("develop" if name == "watch" else name, _SPECIAL.get(name, _plainly)) for name in _WRITTEN
]
_PLACES = range(len(_WRITTEN))
_SHOWN_PLACES = tuple(_WRITTEN.index(name) for name in _SHOWN)
_written_values = attrgetter(*_WRITTEN)
