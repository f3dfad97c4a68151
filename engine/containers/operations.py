"""Containers: all that can be asked of them. One instance a daemon, owned by the event loop."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.containers.model import (
    Change,
    Created,
    CreateRequest,
    EndpointSettings,
    ExecConfig,
    ExecInstance,
    LogQuery,
    Processes,
    Pruned,
    Record,
    ResourceUpdate,
    WaitResult,
)
from engine.events import EventLog

if TYPE_CHECKING:
    from engine.containers.stats import Sample
    from engine.images.operations import Images
    from engine.networks.operations import Networks
    from engine.runtime.launch import Spawner
    from engine.volumes.operations import Volumes


class Streams(Protocol):
    """One client's connection to a container's or an exec's stdio (attach, exec start)."""

    @property
    def tty(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Output as it goes on the wire: stdcopy frames, raw for a tty. Ends with the process,
        or when the detach keys were seen."""
        ...

    async def write(self, data: bytes) -> None: ...
    async def write_eof(self) -> None:
        """The client shut down its sending side: stdin of the process ends."""
        ...

    async def close(self) -> None:
        """The client is gone; the process goes on."""
        ...


class Containers:
    @classmethod
    async def open(
        cls,
        data_root: Path,
        exec_root: Path,
        *,
        spawner: "Spawner",
        images: "Images",
        volumes: "Volumes",
        networks: "Networks",
        events: EventLog,
    ) -> "Containers":
        """Reads the records, adopts what runs, learns exits that were missed."""
        ...

    async def close(self) -> None:
        """The daemon stops; running containers go on."""

    async def create(self, request: CreateRequest) -> Created: ...
    def get(self, reference: str) -> Record:
        """By id, name (with or without slash), or unique id prefix."""
        ...

    def list(self) -> tuple[Record, ...]:
        """All of them, newest first."""
        ...

    async def start(self, reference: str) -> bool:
        """False if it was running already."""
        ...

    async def stop(self, reference: str, *, timeout: int | None = None, signal: str = "") -> bool:
        """`timeout` in seconds, -1 = for ever, None = the container's own. False if it was down."""
        ...

    async def kill(self, reference: str, *, signal: str = "KILL") -> None: ...
    async def restart(
        self, reference: str, *, timeout: int | None = None, signal: str = ""
    ) -> None: ...
    async def pause(self, reference: str) -> None: ...
    async def unpause(self, reference: str) -> None: ...
    async def remove(
        self, reference: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None: ...
    async def rename(self, reference: str, name: str) -> None: ...
    def wait(self, reference: str, *, condition: str = "") -> Awaitable[WaitResult]:
        """Counts from this call on (send the head, then await)."""
        ...

    def logs(self, reference: str, query: LogQuery) -> AsyncIterator[bytes]:
        """Frames ready for the wire (raw for a tty). Refusals are raised by the call itself."""
        ...

    async def attach(
        self,
        reference: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool = False,
        stream: bool = True,
        detach_keys: str = "",
    ) -> Streams: ...
    async def resize(self, reference: str, *, height: int, width: int) -> None: ...
    def exec_create(self, reference: str, config: ExecConfig) -> ExecInstance: ...
    async def exec_start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] = (0, 0)
    ) -> Streams | None:
        """None if detached. A command that can't start raises if detached; else its message is
        in the stream."""
        ...

    def exec_inspect(self, exec_id: str) -> ExecInstance: ...
    async def exec_resize(self, exec_id: str, *, height: int, width: int) -> None: ...
    async def top(self, reference: str, ps_arguments: str = "-ef") -> Processes: ...
    async def update(self, reference: str, change: ResourceUpdate) -> tuple[str, ...]:
        """Warnings."""
        ...

    async def prune(self, wanted: Callable[[Record], bool]) -> Pruned: ...
    async def stats(
        self, reference: str, *, stream: bool, one_shot: bool
    ) -> "AsyncIterator[Sample]": ...

    async def changes(self, reference: str) -> tuple[Change, ...]: ...
    async def connect(self, network: str, reference: str, settings: EndpointSettings) -> None: ...
    async def disconnect(self, network: str, reference: str, *, force: bool = False) -> None: ...
    def volume_users(self, volume: str) -> tuple[str, ...]:
        """Ids of the containers that mount it."""
        ...

    def image_users(self, image_id: str) -> tuple[Record, ...]: ...
    def network_users(self, network_id: str) -> tuple[Record, ...]:
        """Those with an endpoint in it now."""
        ...
