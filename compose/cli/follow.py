"""Containers' output on the screen: what was written, by time; what comes, as it comes.

Shared by `logs` and by `up` in the foreground. It follows containers through restarts and
replacements by the engine's events, so nothing is polled.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import field

from compose.cli.lines import Prefixer
from compose.client.containers import Containers, ContainerSummary
from compose.client.engine import Engine
from compose.client.errors import ApiError, NotFound
from compose.client.events import Event
from compose.client.streams import LineMaker, Source
from compose.dataclass import dataclass
from compose.plan.names import ONE_OFF, PROJECT, REPLACES, SERVICE
from compose.tasks import Together


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of the logs. `since`, `until` as the API takes them; `services` empty: all."""

    services: frozenset[str] = frozenset()
    tail: str = "all"
    since: str = ""
    until: str = ""
    timestamps: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    stamp: str  # RFC 3339 with nine digits: sorts as text
    name: str
    text: str
    source: Source


def display_name(container: str, project: str) -> str:
    """`web-1` for `shop-web-1`; a container_name of the user's stays whole."""
    return container.removeprefix(f"{project}-").removeprefix(f"{project}_")


async def read_lines(
    containers: Containers,
    container: str,
    name: str,
    selection: Selection,
    *,
    follow: bool,
) -> AsyncGenerator[Line, None]:
    """Whole lines of both streams of one container."""
    details = await containers.inspect(container)
    makers = {source: LineMaker() for source in (Source.STDOUT, Source.STDERR)}
    stamp = ""

    def split(text: str, source: Source) -> Line:
        nonlocal stamp
        stamp, _, rest = text.partition(" ")
        return Line(stamp, name, rest, source)

    written = containers.logs(
        container,
        tty=details.tty,
        follow=follow,
        tail=selection.tail,
        since=selection.since,
        until=selection.until,
        timestamps=True,
    )
    async with aclosing(written) as outputs:
        async for output in outputs:
            for text in makers[output.source].feed(output.text):
                yield split(text, output.source)
    for source, maker in makers.items():
        for text in maker.flush():
            yield split(text, source)


async def merge(streams: list[AsyncGenerator[Line, None]]) -> AsyncGenerator[Line, None]:
    """All lines of several ordered streams, by time."""
    heads: list[tuple[str, int, Line]] = []
    async with AsyncExitStack() as stack:
        for index, stream in enumerate(streams):
            await stack.enter_async_context(aclosing(stream))
            if (line := await anext(stream, None)) is not None:
                heapq.heappush(heads, (line.stamp, index, line))
        while heads:
            _, index, line = heapq.heappop(heads)
            yield line
            if (following := await anext(streams[index], None)) is not None:
                heapq.heappush(heads, (following.stamp, index, following))


@dataclass(slots=True)
class Follower:
    """Prints what a project's containers write until none is left that could write more."""

    engine: Engine
    project: str
    selection: Selection
    prefixer: Prefixer
    write: Callable[[str, Source], None]
    told_until: float  # seconds since 1970: what was written before has been shown
    exited: Callable[[str, str, int], None] = lambda service, name, code: None
    say_exits: bool = False
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _died: dict[str, int] = field(default_factory=dict)  # id -> when, nanoseconds since 1970

    async def follow(
        self, events: AsyncIterator[Event], running: list[ContainerSummary], *, forever: bool
    ) -> None:
        """`events`: of this project's containers, subscribed before `running` was listed.

        `forever`: go on when nothing runs any more (until cancelled).
        """
        async with Together() as group:
            for container in running:
                self._begin(group, container.id, container.name, self.selection)
            if not self._tasks and not forever:
                return
            async for event in events:
                if not self._meant(event):
                    continue
                container_name = event.attributes.get("name", "")
                if event.action == "start":
                    selection = Selection(
                        since=self._unseen_since(event.actor_id),
                        timestamps=self.selection.timestamps,
                    )
                    self._begin(group, event.actor_id, container_name, selection)
                elif event.action == "die":
                    self._died[event.actor_id] = event.time
                    await self._end(event, container_name)
                if not self._tasks and not forever and event.action in ("die", "destroy"):
                    if await self._more_will_come(event):
                        continue
                    return

    def _meant(self, event: Event) -> bool:
        service = event.attributes.get(SERVICE, "")
        if event.attributes.get(ONE_OFF) == "True":
            return False
        return not self.selection.services or service in self.selection.services

    def _unseen_since(self, container: str) -> str:
        """Not the start's own time: a quick command has written before the engine tells of it."""
        moment = self._died.get(container, int(self.told_until * 1e9))
        return f"{moment // 10**9}.{moment % 10**9:09d}"

    def _begin(
        self, group: asyncio.TaskGroup, container: str, name: str, selection: Selection
    ) -> None:
        if container not in self._tasks:
            printing = self._print(container, display_name(name, self.project), selection)
            self._tasks[container] = group.create_task(printing)

    async def _end(self, event: Event, container_name: str) -> None:
        """The log's stream ends by itself when its container has; then the exit is told."""
        task = self._tasks.pop(event.actor_id, None)
        if task is None:
            return  # not one that was followed
        await task
        name = display_name(container_name, self.project)
        if self.say_exits:
            # Without the bar: it isn't the container that says it.
            self.write(f"{name} exited with code {event.exit_code}", Source.ENGINE)
        self.exited(event.attributes.get(SERVICE, ""), container_name, event.exit_code)

    async def _more_will_come(self, ended: Event) -> bool:
        """Whether the container is restarted, or was stopped for another that takes its place."""
        labels = [f"{PROJECT}={self.project}"]
        rows = await self.engine.containers.list(all=True, filters={"label": labels})
        name = ended.attributes.get("name", "")
        return any(
            row.state in ("running", "restarting")
            if row.id == ended.actor_id
            else row.state == "created" and row.labels.get(REPLACES) == name
            for row in rows
        )

    async def _print(self, container: str, name: str, selection: Selection) -> None:
        try:
            lines = read_lines(self.engine.containers, container, name, selection, follow=True)
            # Closed at once, whatever ends it: a pipe whose reader has gone, too.
            async with aclosing(lines):
                async for line in lines:
                    self.write(self.prefixer.line(name, shown(line, selection)), line.source)
        except NotFound:
            return  # removed between its event and our request
        except ApiError as error:
            if error.status != 501:  # a log driver that can't be read
                raise
            self.write(self.prefixer.line(name, f"(no log to read: {error})"), Source.ENGINE)


def shown(line: Line, selection: Selection) -> str:
    return f"{line.stamp} {line.text}" if selection.timestamps else line.text
