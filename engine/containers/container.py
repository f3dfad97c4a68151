"""A container as the daemon holds it: its record, and what is alive of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace

from engine.containers.model import ExecConfig, ExecInstance, Record, WaitResult
from engine.containers.restart import Backoff
from engine.containers.streams import ProcessStreams
from engine.errors import Conflict, NotFound
from engine.runtime.handle import ExecProcess, Shim


@dataclass(slots=True)
class Exec:
    """An exec instance: made by create, run once, kept for a while for those who ask."""

    id: str
    container_id: str
    config: ExecConfig
    is_claimed: bool = False  # a start was asked for
    process: ExecProcess | None = None
    exit_code: int | None = None
    settled: asyncio.Event = field(default_factory=asyncio.Event)  # it ended, and that is known
    started: asyncio.Event = field(default_factory=asyncio.Event)  # or failed to

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.exit_code is None

    def instance(self) -> ExecInstance:
        return ExecInstance(
            self.id,
            self.container_id,
            self.config,
            running=self.is_running,
            exit_code=self.exit_code,
            pid=self.process.pid if self.process is not None else 0,
            can_remove=False,
        )


@dataclass(slots=True, eq=False)
class Container:
    """Mutable, the only thing here that is. `lock` covers every change of status."""

    record: Record
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    shim: Shim | None = None
    run_ended: asyncio.Event = field(default_factory=asyncio.Event)  # of the current run
    backoff: Backoff = field(default_factory=Backoff)
    is_being_restarted: bool = False  # by hand: auto-remove has to wait
    is_marked_for_removal: bool = False  # by force: it must not be started any more
    is_ended_for_removal: bool = False  # how it ends matters to nobody
    is_being_removed: bool = False
    is_gone: bool = False  # removed: what waited for the lock has nothing left to change
    is_odd: bool = False  # it wants more than a script can do: its next start need not try
    waiting_clients: set[ProcessStreams] = field(default_factory=set)  # attached before the start
    waiters: list[tuple[str, asyncio.Future[WaitResult]]] = field(default_factory=list)
    execs: dict[str, Exec] = field(default_factory=dict)
    restart_task: asyncio.Task[None] | None = None
    health_task: asyncio.Task[None] | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The lock, on a container that still exists. Raises NotFound."""
        async with self.lock:
            if self.is_gone:
                raise NotFound(f"No such container: {self.id}")
            yield

    def running_shim(self) -> Shim:
        """Raises Conflict while it is down."""
        if self.shim is None or not self.record.state.status.is_up:
            raise Conflict(f"container {self.id} is not running")
        return self.shim

    def shown(self) -> Record:
        """The record with what only the living know."""
        running = tuple(exec.id for exec in self.execs.values() if exec.is_running)
        return replace(self.record, exec_ids=running) if running else self.record

    def add_waiter(self, condition: str, future: asyncio.Future[WaitResult]) -> None:
        """It is forgotten when it is answered, or when its client is gone."""
        waiter = (condition, future)
        self.waiters.append(waiter)
        future.add_done_callback(lambda _: self.waiters.remove(waiter))

    def answer_waiters(self, conditions: tuple[str, ...]) -> None:
        state = self.record.state
        for condition, future in self.waiters:
            if condition in conditions and not future.done():
                # Who waits for the removal hears of what went wrong with that: nothing.
                error = "" if condition == "removed" else state.error
                future.set_result(WaitResult(state.exit_code, error))
