"""What containers do, as the engine's events tell it: states without polling.

`ContainerWatch` subscribes before anything is done, so nothing that happens later is missed.
Health is cleared by each start: what a check said before doesn't count.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field

from compose.client.containers import ContainerDetails
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.client.events import Event
from compose.dataclass import dataclass
from compose.plan import names

ACTIONS = ("create", "start", "restart", "die", "health_status", "destroy", "oom", "pause",
           "unpause", "rename")  # fmt: skip


@dataclass(slots=True)
class ContainerState:
    """The last that is known. Times in nanoseconds since 1970, of the engine's clock."""

    id: str
    status: str = ""  # running, restarting, exited, created, paused, removed
    health: str = ""  # "" without a check
    exit_code: int = 0
    started_at: int = 0
    seen_at: int = 0  # time of the newest event or inspect that is in here
    deaths: int = 0  # since the watch began


@dataclass(slots=True)
class ContainerWatch:
    """`states` is kept up to date by a task; `changed` wakes whoever waits for something."""

    engine: Engine
    states: dict[str, ContainerState] = field(default_factory=dict)
    _waiting: set[asyncio.Event] = field(default_factory=set)
    _broken: ClientError | None = None

    async def look(self, container: str) -> ContainerDetails:
        """Inspect it once, and take in what is newer than the events so far."""
        before = self._seen(container)
        details = await self.engine.containers.inspect(container)
        state = self.states.setdefault(details.id, ContainerState(details.id))
        if state.seen_at != before:
            # An event came in between: it is the newer, but doesn't tell everything.
            state.status = state.status or details.status
            state.health = state.health or ("starting" if details.health else "")
            return details
        state.status = details.status
        state.exit_code = details.exit_code
        state.started_at = details.started_at
        state.health = health_since_start(details)
        self._wake()
        return details

    def state(self, container: str) -> ContainerState:
        return self.states.setdefault(container, ContainerState(container))

    async def until(self, done: Callable[[], bool]) -> None:
        """Returns when `done()` is true; asks again after each event."""
        wake = asyncio.Event()
        self._waiting.add(wake)
        try:
            while not done():
                if self._broken is not None:
                    raise self._broken
                await wake.wait()
                wake.clear()
        finally:
            self._waiting.discard(wake)

    def take(self, event: Event) -> None:
        state = self.state(event.actor_id)
        state.seen_at = event.time
        match event.action:
            case "start":
                state.status, state.started_at = "running", event.time
                state.health = "starting" if state.health else ""
            case "die":
                state.status, state.exit_code = "exited", event.exit_code
                state.deaths += 1
            case "health_status":
                state.health = event.detail or event.attributes.get("health_status", "")
            case "pause":
                state.status = "paused"
            case "unpause":
                state.status = "running"
            case "destroy":
                state.status = "removed"
        self._wake()

    def stop(self, error: ClientError) -> None:
        self._broken = error
        self._wake()

    def _seen(self, container: str) -> int:
        state = self.states.get(container)
        return state.seen_at if state else 0

    def _wake(self) -> None:
        for wake in self._waiting:
            wake.set()


@asynccontextmanager
async def watch_containers(engine: Engine, project: str) -> AsyncIterator[ContainerWatch]:
    """Inside of the block all that happens to the project's containers is taken in."""
    filters = {
        "type": ["container"],
        "label": [f"{names.PROJECT}={project}"],
        "event": [*ACTIONS],
    }
    watch = ContainerWatch(engine)
    async with engine.events.subscribe(filters=filters) as events:

        async def follow() -> None:
            try:
                async for event in events:
                    watch.take(event)
                watch.stop(ClientError("the engine ended its stream of events"))
            except ClientError as error:
                watch.stop(error)
            except ConnectionResetError as error:
                watch.stop(ClientError(f"lost the engine's events: {error}"))

        task = asyncio.create_task(follow(), name=f"events of {project}")
        try:
            yield watch
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def health_since_start(details: ContainerDetails) -> str:
    """The health that belongs to this run: one without a probe since its start is `starting`."""
    if details.health in ("", "starting"):
        return details.health
    if any(probe.end >= details.started_at for probe in details.probes):
        return details.health
    return "starting"
