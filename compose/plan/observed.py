"""frozen: all that a plan may know of the world. `compose/observe.py` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from compose.dataclass import dataclass
from compose.plan.api_socket import ApiSocket


@dataclass(frozen=True, slots=True)
class ObservedMount:
    kind: str  # bind, volume, tmpfs
    name: str  # of the volume
    target: str


@dataclass(frozen=True, slots=True)
class ObservedContainer:
    """A container of the project."""

    id: str
    name: str
    service: str
    number: int  # 0: it has none (a one-off)
    state: str  # created, running, paused, restarting, exited, dead, removing
    one_off: bool = False
    exit_code: int | None = None
    health: str = ""  # starting, healthy, unhealthy; "" without a check
    config_hash: str = ""
    record: str = ""  # JSON of what it was made from; "" if another tool made it
    image_id: str = ""
    networks: Mapping[str, str] = field(default_factory=dict)  # name -> id
    mounts: tuple[ObservedMount, ...] = ()
    depends_on: Mapping[str, bool] = field(default_factory=dict)  # service -> restart
    ports: tuple[ObservedPort, ...] = ()
    created: int = 0  # seconds since 1970
    shares_ports: bool = False  # with others that do
    edited: str = ""  # the limits that were changed by hand since it was made
    # HostConfig, where the engine's labels don't tell what was changed since.
    limits: Mapping[str, object] | None = field(default=None, repr=False)

    @property
    def is_running(self) -> bool:
        return self.state in ("running", "restarting", "paused")


@dataclass(frozen=True, slots=True)
class ObservedPort:
    """A port of the host in use. `ip` "" or "0.0.0.0" or "::": all addresses."""

    ip: str
    port: int
    protocol: str


@dataclass(frozen=True, slots=True)
class ForeignContainer:
    """A container that isn't ours: it can only be in the way."""

    id: str
    name: str
    project: str  # "" if no project made it
    ports: tuple[ObservedPort, ...] = ()
    networks: frozenset[str] = frozenset()  # names


@dataclass(frozen=True, slots=True)
class ObservedNetwork:
    id: str
    name: str
    project: str = ""
    key: str = ""
    config_hash: str = ""
    record: str = ""


@dataclass(frozen=True, slots=True)
class ObservedVolume:
    name: str
    project: str = ""
    key: str = ""
    config_hash: str = ""
    record: str = ""
    driver: str = "local"


@dataclass(frozen=True, slots=True)
class ObservedImage:
    id: str
    volumes: tuple[str, ...] = ()
    has_healthcheck: bool = False
    tagged_at: int = 0  # seconds since 1970; 0: the engine doesn't say


@dataclass(frozen=True, slots=True)
class Observed:
    containers: tuple[ObservedContainer, ...] = ()
    foreign: tuple[ForeignContainer, ...] = ()
    networks: Mapping[str, ObservedNetwork] = field(default_factory=dict)  # all, by name
    volumes: Mapping[str, ObservedVolume] = field(default_factory=dict)  # all, by name
    images: Mapping[str, ObservedImage] = field(default_factory=dict)  # those present
    missing_paths: frozenset[str] = frozenset()  # bind sources that aren't there
    taken_ports: frozenset[ObservedPort] = frozenset()  # by processes of this machine
    profiles: Mapping[str, str] = field(default_factory=dict)  # seccomp files -> JSON
    now: int = 0  # seconds since 1970
    engine_id: str = ""  # known where a service has secrets
    is_ours: bool = False  # the engine is pycompose's own
    api_socket: ApiSocket | None = None  # where a service is to have it

    def image_id(self, reference: str) -> str:
        """Empty where it isn't here."""
        image = self.images.get(reference)
        return image.id if image else ""
