"""`up` in the foreground: the containers' output until they end, Ctrl-C stops them in order, a
second Ctrl-C kills them."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import field
from typing import Any

from compose import life
from compose.cli.context import Context
from compose.cli.find import number, project_containers
from compose.cli.follow import Follower, Selection, display_name
from compose.cli.lines import Prefixer
from compose.cli.menu import HINT, keys
from compose.cli.progress import line_by_line, plain_line
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.events import Event
from compose.client.streams import Source
from compose.dataclass import dataclass
from compose.errors import ComposeError
from compose.model.project import Project
from compose.plan.actions import Planned, StartContainer
from compose.plan.names import PROJECT, SERVICE, slot
from compose.plan.plan import Plan

INTERRUPTED = 130
RUNNING = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Style:
    colour: bool = False
    prefix: bool = True
    timestamps: bool = False


@dataclass(frozen=True, slots=True)
class EndRule:
    """When `up` ends before all containers have: at any exit, or at one that failed."""

    any_exit: bool = False
    any_failure: bool = False
    code_from: str = ""  # the service whose exit code becomes ours

    @property
    def is_set(self) -> bool:
        return self.any_exit or self.any_failure or bool(self.code_from)


@dataclass(slots=True)
class Signals:
    """Ctrl-C and SIGTERM, numbered: the first asks for a stop, the second for a kill."""

    count: int = 0
    arrived: asyncio.Queue[int] = field(default_factory=asyncio.Queue)

    def take(self) -> None:
        self.count += 1
        self.arrived.put_nowait(self.count)


@asynccontextmanager
async def signals() -> AsyncIterator[Signals]:
    loop = asyncio.get_running_loop()
    taken = Signals()
    for which in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(which, taken.take)
    try:
        yield taken
    finally:
        for which in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(which)


@dataclass(slots=True)
class Foreground:
    context: Context
    engine: Engine
    project: Project
    services: frozenset[str]  # whose output is shown
    style: Style
    rule: EndRule
    timeout: int | None
    menu: bool = False  # whether keys are heeded
    targets: frozenset[str] = frozenset()  # their end is the end of it; empty: all must end
    watch: Callable[[], Coroutine[Any, Any, object]] | None = None  # what w begins
    watches: bool = False  # from the start; then the end of all containers isn't its own
    first_exit: asyncio.Future[tuple[str, int]] = field(init=False)
    targets_ended: asyncio.Future[None] = field(init=False)
    codes: dict[str, int] = field(default_factory=dict)  # service -> last exit code
    _alive: set[str] = field(default_factory=set)  # containers of the targets

    async def run(self, events: AsyncIterator[Event], started_at: float, plan: Plan) -> int:
        """The exit code. `events` were subscribed before anything was started, at `started_at`;
        `plan` is what has been done since."""
        self.first_exit = asyncio.get_running_loop().create_future()
        self.targets_ended = asyncio.get_running_loop().create_future()
        listed_at = time.time_ns()
        rows = await project_containers(self.engine, self.project.name, sorted(self.services))
        names = [display_name(row.name, self.project.name) for row in rows]
        self._alive = {row.name for row in rows if row.labels.get(SERVICE) in self.targets}
        selection = Selection(
            services=self.services, since=f"{started_at:.6f}", timestamps=self.style.timestamps
        )
        follower = Follower(
            self.engine,
            self.project.name,
            selection,
            Prefixer(names, self.style.colour, self.style.prefix),
            write,
            told_until=started_at,
            exited=self._exited,
            say_exits=True,
        )
        # What we started and has ended already is followed too: its end is among the events.
        followed = [row for row in rows if row.state in RUNNING or was_started(plan, row)]
        async with signals() as taken, keys(self.menu) as typed:
            if self.menu:
                self.context.say(HINT)
            following = asyncio.create_task(
                follower.follow(later_starts(events, listed_at), followed, forever=self.watches)
            )
            try:
                return await self._until_over(following, taken, typed)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    def _exited(self, service: str, name: str, code: int) -> None:
        self.codes[service] = code
        if name in self._alive:
            self._alive.discard(name)
            if not self._alive and not self.targets_ended.done():
                self.targets_ended.set_result(None)
        counts = code != 0 if self.rule.any_failure else self.rule.is_set
        if counts and not self.first_exit.done():
            self.first_exit.set_result((service, code))

    async def _until_over(
        self, following: asyncio.Task[None], taken: Signals, typed: asyncio.Queue[str]
    ) -> int:
        interrupt = asyncio.create_task(taken.arrived.get())
        menu = asyncio.create_task(self._heed(typed))
        try:
            waited: set[asyncio.Future[Any]] = {
                following, interrupt, menu, self.first_exit, self.targets_ended
            }  # fmt: skip
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if menu.done():
                menu.result()
                self.context.say("detached: the containers run on; pycompose down stops them")
                return 0
            if self.first_exit.done():
                service, code = self.first_exit.result()
                self.context.say(f"{service} has ended with code {code}: stopping the others")
                await self._stop()
                return self.codes.get(self.rule.code_from, code) if self.rule.code_from else code
            if interrupt.done():
                await self._stop_or_kill(taken)
                return INTERRUPTED
            if not self.targets_ended.done():
                await following
            return 0
        finally:
            interrupt.cancel()
            menu.cancel()
            await asyncio.gather(menu, return_exceptions=True)

    async def _heed(self, typed: asyncio.Queue[str]) -> None:
        """Returns when d is typed; w begins to follow the files, and ends it."""
        watching: asyncio.Task[object] | None = None
        if self.watches and self.watch is not None:
            watching = self._begin(self.watch())
        try:
            while True:
                letter = await typed.get()
                if letter == "d":
                    return
                if letter != "w" or self.watch is None:
                    continue
                if watching is None or watching.done():
                    watching = self._begin(self.watch())
                else:
                    watching.cancel()
                    watching = None
                    self.context.say("files are watched no more")
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    def _begin(self, watching: Coroutine[Any, Any, object]) -> asyncio.Task[object]:
        def tell(ended: asyncio.Task[object]) -> None:
            if not ended.cancelled() and (error := ended.exception()):
                self.context.say(f"files are watched no more: {error}")

        task = asyncio.create_task(watching)
        task.add_done_callback(tell)
        return task

    async def _stop_or_kill(self, taken: Signals) -> None:
        self.context.say("\nstopping in order; press Ctrl-C again to kill")
        stopping = asyncio.create_task(self._stop())
        again = asyncio.create_task(taken.arrived.get())
        both: set[asyncio.Future[Any]] = {stopping, again}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        again.cancel()
        if not stopping.done():
            self.context.say("killing")
            await life.kill(self.engine, self.project.name, services=self.services)
        await stopping

    async def _stop(self) -> None:
        try:
            await life.stop(
                self.engine,
                self.project.name,
                self.project,
                services=self.services,
                timeout=self.timeout,
                listener=line_by_line(plain_line),
            )
        except ComposeError as error:
            self.context.say(str(error))


def write(text: str, source: Source) -> None:
    """To the stream that it was written to."""
    print(text, file=sys.stderr if source is Source.STDERR else sys.stdout, flush=True)


def was_started(plan: Plan, row: ContainerSummary) -> bool:
    started = {step.action.container for step in plan.steps if type(step.action) is StartContainer}
    planned = Planned(slot(row.labels.get(SERVICE, ""), number(row)))
    return planned in started or any(getattr(ref, "id", "") == row.id for ref in started)


async def later_starts(events: AsyncIterator[Event], listed_at: int) -> AsyncIterator[Event]:
    """Without the starts that the listing has seen already."""
    async for event in events:
        if event.action != "start" or event.time > listed_at:
            yield event


@asynccontextmanager
async def subscribed(engine: Engine, project: str) -> AsyncIterator[AsyncIterator[Event]]:
    filters = {"type": ["container"], "label": [f"{PROJECT}={project}"]}
    async with engine.events.subscribe(filters=filters) as events:
        yield events


def style(context: Context, *, no_colour: bool, no_prefix: bool, timestamps: bool) -> Style:
    colour = context.colour(sys.stdout.fileno()) and not no_colour
    return Style(colour=colour, prefix=not no_prefix, timestamps=timestamps)
