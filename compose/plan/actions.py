"""One frozen class an Engine API call (or one wait). Values only: `apply/perform.py` does them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from compose.dataclass import dataclass
from compose.model.service import Condition, Hook


@dataclass(frozen=True, slots=True)
class Existing:
    """A container that is there already."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class Planned:
    """A container that a CreateContainer of the same plan makes."""

    slot: str


ContainerRef = Existing | Planned


@dataclass(frozen=True, slots=True)
class FileCopy:
    """A file with a content of ours, for a container."""

    path: str
    content: bytes = field(repr=False)
    uid: int
    gid: int
    mode: int


@dataclass(frozen=True, slots=True)
class WriteFiles:
    """New contents for files that a container was made with, while it runs."""

    container: ContainerRef
    files: tuple[FileCopy, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """`field` of HostConfig is to name another container: NetworkMode, PidMode, VolumesFrom..."""

    field: str
    container: ContainerRef
    suffix: str = ""  # ":ro" of volumes_from


@dataclass(frozen=True, slots=True)
class PullImage:
    reference: str
    platform: str = ""


@dataclass(frozen=True, slots=True)
class PushImage:
    reference: str


@dataclass(frozen=True, slots=True)
class BuildImage:
    """`context`: a folder of this machine, or a URL. `query`: what the engine is told besides."""

    reference: str
    context: str
    dockerfile: str = ""
    inline: str = field(default="", repr=False)
    query: Mapping[str, str | int | bool | Sequence[str] | None] = field(
        repr=False, default_factory=dict
    )
    secrets: Mapping[str, bytes] = field(repr=False, default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)  # by name: a folder, an image, a URL
    own_keys: tuple[str, ...] = ()  # keys of `build` that only pycompose's own engine knows


@dataclass(frozen=True, slots=True)
class CreateNetwork:
    name: str
    body: Mapping[str, object] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoveNetwork:
    name: str


@dataclass(frozen=True, slots=True)
class ConnectNetwork:
    network: str
    container: ContainerRef
    endpoint: Mapping[str, object] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class DisconnectNetwork:
    network: str
    container: ContainerRef


@dataclass(frozen=True, slots=True)
class CreateVolume:
    name: str
    body: Mapping[str, object] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoveVolume:
    name: str


@dataclass(frozen=True, slots=True)
class RemoveImage:
    reference: str


@dataclass(frozen=True, slots=True)
class CreateContainer:
    """`endpoints`: network name -> settings, the first is the primary one.

    `files` go with the request where the engine places them, else they are copied in afterwards.
    """

    slot: str
    service: str
    name: str
    body: Mapping[str, object] = field(repr=False, default_factory=dict)
    endpoints: Mapping[str, Mapping[str, object]] = field(repr=False, default_factory=dict)
    files: tuple[FileCopy, ...] = ()
    places_files: bool = False
    shares: tuple[Share, ...] = ()
    platform: str = ""


@dataclass(frozen=True, slots=True)
class StartContainer:
    """`pre_start`: containers that run to their end before it."""

    container: ContainerRef
    post_start: tuple[Hook, ...] = ()
    pre_start: tuple[CreateContainer, ...] = ()


@dataclass(frozen=True, slots=True)
class UnpauseContainer:
    container: ContainerRef


@dataclass(frozen=True, slots=True)
class PauseContainer:
    container: ContainerRef


@dataclass(frozen=True, slots=True)
class StopContainer:
    """`timeout`: seconds until SIGKILL; None: as the container was made."""

    container: ContainerRef
    timeout: int | None = None
    pre_stop: tuple[Hook, ...] = ()


@dataclass(frozen=True, slots=True)
class KillContainer:
    container: ContainerRef
    signal: str


@dataclass(frozen=True, slots=True)
class UpdateContainer:
    """As it runs: `body` is that of the API's update, with the labels that tell what it is now."""

    container: ContainerRef
    body: Mapping[str, object] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class RenameContainer:
    container: ContainerRef
    name: str


@dataclass(frozen=True, slots=True)
class RemoveContainer:
    """`volumes`: its anonymous ones too. `force`: kill it first."""

    container: ContainerRef
    volumes: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class AwaitCondition:
    """Wait until all of a service's containers are started, healthy, or ended with code 0."""

    service: str
    condition: Condition
    containers: tuple[ContainerRef, ...]
    required: bool = True


@dataclass(frozen=True, slots=True)
class Pace:
    """`deploy.update_config` or `rollback_config`, in seconds; Swarm's defaults."""

    parallelism: int = 1  # 0: all at once
    delay: float = 0.0
    failure_action: str = "pause"  # continue, rollback
    monitor: float = 5.0
    max_failure_ratio: float = 0.0
    start_first: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """A container that makes way for another one, which has been created as `interim`. Who is in
    place has `name`; the old one is called `aside` once it isn't any more."""

    slot: str
    name: str
    interim: str
    aside: str
    old: Existing
    new: Planned
    stop: StopContainer | None  # of the old one; None: it doesn't run
    start: StartContainer  # of the new one
    remove: RemoveContainer  # the old one, when it is of no use any more
    can_overlap: bool  # both may run at once


@dataclass(frozen=True, slots=True)
class UpdateService:
    """Replace a service's containers, some at a time, and take that back where too many don't come
    up and it is asked for. Whatever comes of it, what these containers leave is cleared away."""

    service: str
    turns: tuple[Turn, ...]
    update: Pace
    rollback: Pace


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Nothing to do: what can be made beforehand has been made, what runs is touched from here."""


Action = (
    PullImage
    | PushImage
    | BuildImage
    | CreateNetwork
    | RemoveNetwork
    | ConnectNetwork
    | DisconnectNetwork
    | CreateVolume
    | RemoveVolume
    | RemoveImage
    | WriteFiles
    | CreateContainer
    | StartContainer
    | UnpauseContainer
    | PauseContainer
    | StopContainer
    | KillContainer
    | UpdateContainer
    | RenameContainer
    | RemoveContainer
    | AwaitCondition
    | UpdateService
    | Checkpoint
)
