"""What the work on containers needs: the neighbours, the store, and an owner for its tasks."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from engine.containers.container import Container
from engine.containers.logs import LogWatch
from engine.containers.model import Record
from engine.containers.spec import Machine, cgroup_path
from engine.containers.store import Store
from engine.containers.turns import Turns
from engine.events import EventLog
from engine.images.operations import Images
from engine.networks.operations import Networks
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.launch import Spawner
from engine.settings import ContainerDefaults
from engine.volumes.operations import Volumes

log = logging.getLogger(__name__)

CLOSING = 4.0  # seconds for work under way when the daemon stops

T = TypeVar("T")


@dataclass(slots=True)
class Tasks:
    """Owns what runs on its own: `work` is waited for at the end, `watches` are cancelled."""

    work: set[asyncio.Task[object]] = field(default_factory=set)
    watches: set[asyncio.Task[object]] = field(default_factory=set)
    is_closing: bool = False

    async def finish(self, coroutine: Coroutine[object, object, T]) -> T:
        """The result; goes on to the end also if the caller is cancelled: a change of state is
        never left half done because a client went away."""
        task = asyncio.create_task(coroutine)
        self._own(task, self.work)
        return await asyncio.shield(task)

    def start(self, coroutine: Coroutine[object, object, None], what: str) -> asyncio.Task[None]:
        """Work that nobody waits for now."""
        return self._begin(coroutine, what, self.work)

    def watch(self, coroutine: Coroutine[object, object, None], what: str) -> asyncio.Task[None]:
        """A loop that ends by being cancelled."""
        return self._begin(coroutine, what, self.watches)

    def _begin(
        self,
        coroutine: Coroutine[object, object, None],
        what: str,
        owner: set[asyncio.Task[object]],
    ) -> asyncio.Task[None]:
        async def outermost() -> None:
            try:
                await coroutine
            except Exception:
                log.exception("%s failed", what)

        task = asyncio.create_task(outermost())
        self._own(task, owner)
        return task

    def _own(self, task: "asyncio.Task[T]", owner: "set[asyncio.Task[object]]") -> None:
        owned: asyncio.Task[object] = task
        owner.add(owned)

        def disown(done: asyncio.Task[object]) -> None:
            owner.discard(done)
            # Whoever waited for it may be gone: then nobody else asks for its error.
            if not done.cancelled() and (error := done.exception()) is not None:
                log.debug("%s: %s", done.get_name(), error)

        owned.add_done_callback(disown)

    async def close(self) -> None:
        self.is_closing = True
        for task in self.watches:
            task.cancel()
        # A stop may wait for minutes; what it waits for, the next daemon sees.
        if pending := self.work | self.watches:
            await asyncio.wait(pending, timeout=CLOSING)
        while pending := self.work | self.watches:
            for task in pending:
                task.cancel()
            await asyncio.wait(pending)


@dataclass(frozen=True, slots=True)
class Parts:
    spawner: Spawner
    images: Images
    volumes: Volumes
    networks: Networks
    events: EventLog
    store: Store
    machine: Machine
    hierarchy: Hierarchy
    boot_id: str
    exec_root: Path  # <exec-root>/containers
    log_watch: LogWatch
    find: Callable[[str], Container]  # by id, name or prefix; raises NotFound
    forget: Callable[[Container], None]  # it is no longer among the containers
    volume_users: Callable[[str], tuple[str, ...]]  # ids of those that mount a volume
    defaults: ContainerDefaults
    tasks: Tasks = field(default_factory=Tasks)
    turns: Turns = field(default_factory=Turns)

    def exec_dir(self, container_id: str) -> str:
        return f"{self.exec_root}/{container_id}"

    def wake_followers(self, container_id: str) -> None:
        """Those of its log: its state has changed."""
        self.log_watch.wake(f"{self.store.root}/{container_id}")

    def cgroup(self, record: Record) -> Cgroup:
        return Cgroup(self.hierarchy, cgroup_path(record))

    def prepare_folder(self) -> None:
        """For the next container, in a thread that has nothing more to do."""
        try:
            self.store.prepare()
        except OSError as error:  # it makes its own then, and says why it can't
            log.info("no folder waits for the next container: %s", error)

    def save(self, record: Record) -> None:
        """The state, without waiting for the disk. A full disk must not keep a container from
        being stopped or removed, so it is only said."""
        try:
            self.store.save_state(record)
        except OSError as error:
            log.error("cannot save the state of container %s: %s", record.id, error)

    def publish(self, record: Record, action: str, **attributes: str) -> None:
        """An event of a container, with the attributes that Docker gives all of them."""
        common = {"image": record.config.image, "name": record.name, **record.config.labels}
        self.events.publish("container", action, record.id, {**common, **attributes})
