"""`pyengine stats`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.errors import NotFound
from compose.client.tables import Row, show
from compose.client.usage import NOTHING, Usage, usage
from engine.cli import words
from engine.cli.complete import container_names
from engine.cli.options import Format, NoTrunc
from engine.cli.session import on_engine

TITLES = {
    "ID": "CONTAINER ID",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
}
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
# A terminal's sequences: to the upper left, the rest of the line and of the screen empty.
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
PAUSE = 1.0  # seconds between pictures; the engine samples as often


def stats(
    ctx: typer.Context,
    containers: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONTAINER...]", hidden=True, autocompletion=container_names),
    ] = None,
    all: Annotated[bool, typer.Option("-a", "--all", help="Also those that don't run.")] = False,
    format: Format = "",
    no_stream: Annotated[bool, typer.Option("--no-stream", help="Once, then end.")] = False,
    no_trunc: NoTrunc = False,
) -> None:
    async def work(engine: Engine) -> None:
        board = Board(engine, containers or [], all=all)
        if no_stream:
            await board.sample_once()
            print(board.text(format, whole=no_trunc))
            return
        await board.follow(format, whole=no_trunc)

    on_engine(ctx, work)


class Board:
    """What was seen last of each container; of those that are named, or of all there are."""

    def __init__(self, engine: Engine, names: list[str], *, all: bool) -> None:
        self._engine = engine
        self._names = names
        self._all = all or bool(names)
        self._rows: dict[str, ContainerSummary] = {}
        self._called: Mapping[str, str] = {}  # as the user named it
        self._found: dict[str, Usage] = {}

    async def observe(self) -> None:
        rows = await self._engine.containers.list(all=self._all)
        if self._names:
            chosen = []
            called = {}
            for name in self._names:
                fits = [r for r in rows if r.name == name or r.id.startswith(name)]
                if not fits:
                    raise NotFound(404, f"No such container: {name}", "")
                chosen.append(fits[0])
                called[fits[0].id] = name
            rows, self._called = tuple(chosen), called
        self._rows = {row.id: row for row in rows}

    async def sample_once(self) -> None:
        await self.observe()
        await asyncio.gather(*(self._sample(container) for container in self._rows))

    async def _sample(self, container: str) -> None:
        with contextlib.suppress(NotFound):  # removed meanwhile
            async for sample in self._engine.containers.samples(container, stream=False):
                self._found[container] = usage(sample)

    async def follow(self, format: str, *, whole: bool) -> None:
        """A picture a second until interrupted; with names, until none of them runs."""
        is_live = sys.stdout.isatty() and (not format or format.startswith("table"))
        await self.observe()
        following: dict[str, asyncio.Task[None]] = {}
        while True:
            for container, row in self._rows.items():
                if row.state in ("running", "paused") and container not in following:
                    following[container] = asyncio.ensure_future(self._watch(container))
            pause = asyncio.ensure_future(asyncio.sleep(PAUSE))
            await asyncio.wait((pause, *following.values()), timeout=PAUSE)
            text = self.text(format, whole=whole)
            print(picture(text.splitlines()) if is_live else text, flush=True)
            for container in [name for name, task in following.items() if task.done()]:
                following.pop(container).result()
            if self._names and not following:
                return
            with contextlib.suppress(NotFound):
                await self.observe()

    async def _watch(self, container: str) -> None:
        is_first = True
        with contextlib.suppress(NotFound):
            async for sample in self._engine.containers.samples(container, stream=True):
                if not is_first:  # it has none before it that tells what the processor did since
                    self._found[container] = usage(sample)
                is_first = False
        self._found.pop(container, None)

    def text(self, format: str, *, whole: bool) -> str:
        rows = [
            {
                "Container": self._called.get(container, container),
                **cells(row, self._found.get(container, NOTHING), whole=whole),
            }
            for container, row in self._rows.items()
        ]
        return show(rows, format, titles=TITLES, columns=COLUMNS)


def cells(row: ContainerSummary, used: Usage, *, whole: bool) -> Row:
    shown: Mapping[str, str] = used.cells()
    identity = words.short_id(row.id, whole=whole)
    return {"ID": identity, "Name": row.name, **shown}


def picture(lines: list[str]) -> str:
    return _HOME + "\n".join(line + _CLEAR_LINE for line in lines) + "\n" + _CLEAR_REST
