"""`pycompose stats`: what the containers use, now and on."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated

import typer

from compose.cli.change import Services
from compose.cli.context import Context
from compose.cli.find import check_services, find_project, project_containers
from compose.cli.render import Format, check_format, json_lines, table
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.errors import NotFound
from compose.client.tables import is_template, show
from compose.client.usage import NOTHING, Usage, usage

HEADERS = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O",
           "PIDS")  # fmt: skip
# A terminal's sequences: to the upper left, the rest of the line and of the screen empty.
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
Show = Callable[[], None]


def register(app: typer.Typer) -> None:
    @app.command("stats")
    def stats(
        ctx: typer.Context,
        services: Services = None,
        all: Annotated[bool, typer.Option("-a", "--all", help="Stopped ones too.")] = False,
        no_stream: Annotated[bool, typer.Option("--no-stream", help="Once, then end.")] = False,
        no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Whole ids.")] = False,
        format: Format = "table",
    ) -> int:
        check_format(format, templates=True)
        asyncio.run(_stats(ctx.obj, services or [], all, no_stream, no_trunc, format))
        return 0


async def _stats(
    context: Context,
    services: list[str],
    everything: bool,
    once: bool,
    whole: bool,
    format: str,
) -> None:
    name, project = find_project(context)
    check_services(project, services)
    engine = await context.engine()
    rows = await project_containers(engine, name, services or None, all=everything, oneoff=True)
    rows.sort(key=lambda row: row.name)
    found = dict.fromkeys((row.id for row in rows), NOTHING)
    running = [row.id for row in rows if row.state in ("running", "paused")]
    if once:
        await asyncio.gather(*(_sample(engine, container, found) for container in running))
        print(_text(rows, found, whole=whole, format=format))
        return
    is_live = sys.stdout.isatty() and format == "table"

    def show() -> None:
        text = _text(rows, found, whole=whole, format=format)
        print(_picture(text.splitlines()) if is_live else text, flush=True)

    await _follow_all(engine, running, found, show)


async def _sample(engine: Engine, container: str, found: dict[str, Usage]) -> None:
    with contextlib.suppress(NotFound):  # removed meanwhile
        async for sample in engine.containers.samples(container, stream=False):
            found[container] = usage(sample)


async def _follow_all(
    engine: Engine, running: Sequence[str], found: dict[str, Usage], show: Show
) -> None:
    """A picture each time that all of them have told; until all have ended."""
    alive, awaited = set(running), set(running)

    def told(container: str) -> None:
        awaited.discard(container)
        if not awaited:
            show()
            awaited.update(alive)

    async def follow(container: str) -> None:
        is_first = True
        with contextlib.suppress(NotFound):
            async for sample in engine.containers.samples(container, stream=True):
                if not is_first:  # it has none before it that tells what the processor did since
                    found[container] = usage(sample)
                    told(container)
                is_first = False
        alive.discard(container)
        found[container] = NOTHING
        told(container)

    await asyncio.gather(*(follow(container) for container in running))


def _picture(lines: Sequence[str]) -> str:
    return _HOME + "\n".join(line + _CLEAR_LINE for line in lines) + _CLEAR_REST


def _text(
    rows: Sequence[ContainerSummary], found: Mapping[str, Usage], *, whole: bool, format: str
) -> str:
    def identity(row: ContainerSummary) -> str:
        return row.id if whole else row.id[:12]

    documents = [
        {"Container": row.id, "ID": identity(row), "Name": row.name, **found[row.id].cells()}
        for row in rows
    ]
    if is_template(format):
        return show(documents, format)
    if format == "json":
        return json_lines(documents)
    cells = ((identity(row), row.name, *found[row.id].cells().values()) for row in rows)
    return table(HEADERS, cells)
