"""Self-healing: whatever the engine's events say has departed from the last revision is brought
back, until it is ended.

A container that ends by itself with code 0 has done its work; one that fails is started again by
its own restart policy first, and by this where it has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import field, replace

from compose import converge, history
from compose.apply.listener import Listener
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.client.events import Event
from compose.converge import UpOptions
from compose.dataclass import dataclass
from compose.errors import Busy, ComposeError
from compose.model.project import Project
from compose.plan.names import NUMBER, ONE_OFF, PROJECT, SERVICE, slot
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan

QUIET = 0.2  # seconds from an event for those that belong to it
LONGEST = 60.0  # seconds between two attempts at the same thing, at the most
News = tuple[Event, str]  # and what it says, in words
STEADY = 120.0  # seconds after which an attempt counts as the first again


@dataclass(slots=True)
class Attempts:
    """Pure: when a thing may be mended again: at once, then after 1, 2, 4, ... seconds."""

    counts: dict[str, int] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def due(self, thing: str, now: float) -> float:
        """When it may be; not later than `now`: at once."""
        if thing not in self.last or now - self.last[thing] > STEADY:
            self.counts.pop(thing, None)
            return now
        return self.last[thing] + min(2.0 ** (self.counts[thing] - 1), LONGEST)

    def made(self, thing: str, now: float) -> None:
        self.due(thing, now)
        self.counts[thing] = self.counts.get(thing, 0) + 1
        self.last[thing] = now


@dataclass(slots=True)
class Reconciler:
    """`connect` gives the engine, started again where that is ours to do; `say` tells a line.
    `fresh`: all was brought up a moment ago, so that what has ended with code 0 is done."""

    name: str
    connect: Callable[[], Awaitable[Engine]]
    say: Callable[[str], None]
    progress: Callable[[], AbstractContextManager[Listener]]
    fresh: bool = False
    attempts: Attempts = field(default_factory=Attempts)
    ended: dict[str, bool] = field(default_factory=dict)  # container -> stopped by somebody
    settled: set[str] = field(default_factory=set)  # containers that have done their work

    async def run(self) -> None:
        """Until cancelled. Raises UsageError where nothing was ever applied."""
        engine = await self.connect()
        await history.latest(engine, self.name)
        while True:
            try:
                await self._follow(engine)
            except ClientError as error:
                self.say(f"lost the engine: {error}")
            engine = await self._again()

    async def _again(self) -> Engine:
        while True:
            now = time.monotonic()
            await asyncio.sleep(max(0.0, self.attempts.due("the engine", now) - now))
            self.attempts.made("the engine", time.monotonic())
            with contextlib.suppress(ClientError):
                return await self.connect()

    async def _follow(self, engine: Engine) -> None:
        """Returns when the engine ends its events."""
        queue: asyncio.Queue[News | None] = asyncio.Queue()
        kinds = {"type": ["container", "network", "volume", "project"]}
        async with engine.events.subscribe(filters=kinds) as events:

            async def read() -> None:
                try:
                    async for event in events:
                        if words := self._told(event):
                            queue.put_nowait((event, words))
                finally:
                    queue.put_nowait(None)

            reader = asyncio.ensure_future(read())
            try:
                if self.fresh:
                    await self._settle(engine)
                wait = await self._round(engine, ())
                number = (await history.latest(engine, self.name)).number
                self.say(f"{self.name} is kept as in revision {number}")
                while (gathered := await _gather(queue, wait)) is not None:
                    wait = await self._round(engine, in_words(gathered))
                await reader  # an engine that was killed hung up in the middle: that is raised
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    async def _settle(self, engine: Engine) -> None:
        labels = [f"{PROJECT}={self.name}", f"{ONE_OFF}=False"]
        for row in await engine.containers.list(filters={"label": labels}):
            if row.state == "exited" and row.exit_code == 0:
                self.settled.add(row.id)
        self.fresh = False

    def _told(self, event: Event) -> str:
        """What an event says of the project, in words; "" if it is nothing to look after."""
        if event.kind == "container":
            return self._told_of_container(event)
        if event.kind in ("network", "volume") and event.action in ("destroy", "disconnect"):
            name = event.attributes.get("name", event.actor_id)
            return f"{event.kind} {name}: {event.action}"
        if event.kind == "project" and event.attributes.get(PROJECT) == self.name:
            return "a new revision" if event.action == "revision" else ""
        return ""

    def _told_of_container(self, event: Event) -> str:
        attributes = event.attributes
        if attributes.get(PROJECT) != self.name or attributes.get(ONE_OFF) == "True":
            return ""
        number = attributes.get(NUMBER, "")
        subject = slot(attributes.get(SERVICE, ""), int(number) if number.isdigit() else 0)
        match event.action:
            case "kill":
                self.ended[event.actor_id] = True  # the exit that follows is somebody's wish
                return ""
            case "start":
                self.ended.pop(event.actor_id, None)
                self.settled.discard(event.actor_id)
                return ""
            case "die":
                if event.exit_code == 0 and not self.ended.get(event.actor_id):
                    self.settled.add(event.actor_id)
                    return ""
                by_hand = " after it was told to" if self.ended.get(event.actor_id) else ""
                return f"{subject} ended with code {event.exit_code}{by_hand}"
            case "oom":
                return f"{subject} ran out of memory"
            case "destroy":
                return f"{subject} was removed"
            case "pause" | "rename" | "update":
                return f"{subject}: {event.action} by hand"
            case "health_status" if event.detail == "unhealthy":
                return f"{subject} is unhealthy"
            case _:
                return ""

    async def _round(self, engine: Engine, told: Iterable[str]) -> float | None:
        """Mend what may be mended now. After how many seconds to come back; None: at an event."""
        try:
            revision = await history.latest(engine, self.name)
            plan, project, options = await converge.plan_healing(
                engine, revision, self.name, settled=frozenset(self.settled)
            )
            if plan.is_empty:
                return None
            for words in told:
                self._log(words)
            return await self._mend(engine, project, options, plan)
        except Busy:
            return 1.0  # somebody changes it just now: then it is looked at again
        except ClientError:
            raise
        except ComposeError as error:
            self._log(str(error))
            self.attempts.made("the plan", now := time.monotonic())
            return max(0.0, self.attempts.due("the plan", now) - now)

    async def _mend(
        self, engine: Engine, project: Project, options: PlanOptions, plan: Plan
    ) -> float | None:
        now = time.monotonic()
        things = {thing_of(change.subject) for change in plan.changes}
        due = {thing: self.attempts.due(thing, now) for thing in things}
        ready = {thing for thing in things if due[thing] <= now}
        later = min((due[thing] - now for thing in things - ready), default=None)
        if not ready:
            return later
        if later is not None:
            # The others wait for their turn; what these need runs, or is among them.
            services = frozenset(ready & project.services.keys())
            options = replace(options, services=services, no_deps=True)
        for change in plan.changes:
            if thing_of(change.subject) in ready:
                self._log(f"{change}: {change.cause}")
        for thing in ready:
            self.attempts.made(thing, now)
        with self.progress() as listener:
            await converge.up(engine, project, UpOptions(options, command=""), listener)
        return later

    def _log(self, words: str) -> None:
        self.say(f"{time.strftime('%H:%M:%S')} {words}")


def in_words(news: Iterable[News]) -> list[str]:
    """Each once. That what ends leaves its networks, too, is nothing new."""
    news = tuple(news)
    gone = {event.actor_id for event, _ in news if event.action in ("die", "destroy")}
    told = (words for event, words in news if event.attributes.get("container") not in gone)
    return list(dict.fromkeys(told))


def thing_of(subject: str) -> str:
    """What attempts are counted for: a service, a network, a volume, an image."""
    return subject if " " in subject else subject.rpartition(".")[0]


async def _gather(queue: asyncio.Queue[News | None], wait: float | None) -> list[News] | None:
    """What belongs together; [] when `wait` seconds went by; None at the end of events."""
    gathered: list[News] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait) as patience:
            while (news := await queue.get()) is not None:
                if not gathered:
                    until = asyncio.get_running_loop().time() + QUIET
                    patience.reschedule(until)
                gathered.append(news)
            return None
    return gathered
