"""`pycompose logs`: what the containers wrote, merged by time."""

import asyncio
import sys
import time
from contextlib import aclosing
from dataclasses import replace
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, meant, number, project_containers
from compose.cli.follow import (
    Follower,
    Selection,
    display_name,
    merge,
    read_lines,
    shown,
)
from compose.cli.lines import Prefixer
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.moments import api_time
from compose.client.streams import Source
from compose.errors import UsageError
from compose.plan.names import PROJECT


def register(app: typer.Typer) -> None:
    @app.command("logs")
    def logs(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it comes.")] = False,
        tail: Annotated[
            str,
            typer.Option(
                "-n", "--tail", help="Lines from the end of each container's log.", metavar="NUMBER"
            ),
        ] = "all",
        since: Annotated[
            str,
            typer.Option("--since", help="From this time, or this long ago (10m).", metavar="TIME"),
        ] = "",
        until: Annotated[
            str, typer.Option("--until", help="Up to this time, or this long ago.", metavar="TIME")
        ] = "",
        timestamps: Annotated[
            bool, typer.Option("-t", "--timestamps", help="Say when each line was written.")
        ] = False,
        no_colour: Annotated[bool, typer.Option("--no-color", help="No colours.")] = False,
        no_prefix: Annotated[
            bool, typer.Option("--no-log-prefix", help="Without the containers' names.")
        ] = False,
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
    ) -> int:
        context: Context = ctx.obj
        selection = Selection(
            services=frozenset(services or ()),
            tail=tail,
            since=api_time(since, "--since"),
            until=api_time(until, "--until"),
            timestamps=timestamps,
        )
        colour = context.colour(sys.stdout.fileno()) and not no_colour
        asyncio.run(_logs(context, selection, follow, colour, not no_prefix, index))
        return 0


async def _logs(
    context: Context, selection: Selection, follow: bool, colour: bool, prefix: bool, index: int
) -> None:
    name, project = find_project(context)
    check_services(project, sorted(selection.services))
    about = meant(context, project, sorted(selection.services))
    selection = replace(selection, services=frozenset(about or ()))
    engine = await context.engine()
    filters = {"type": ["container"], "label": [f"{PROJECT}={name}"]}

    async def chosen() -> list[ContainerSummary]:
        rows = await project_containers(engine, name, about)
        if index and not any(number(row) == index for row in rows):
            raise UsageError(f"there is no container #{index}")
        return [row for row in rows if index in (0, number(row)) and row.state != "created"]

    if not follow:
        rows = await chosen()
        await _print(engine, name, rows, selection, _prefixer(name, rows, colour, prefix))
        return
    async with engine.events.subscribe(filters=filters) as events:
        listed_at = time.time()
        rows = await chosen()
        prefixer = _prefixer(name, rows, colour, prefix)
        ended = [row for row in rows if row.state not in ("running", "paused")]
        await _print(engine, name, ended, selection, prefixer)
        running = [row for row in rows if row not in ended]
        follower = Follower(engine, name, selection, prefixer, write, listed_at)
        # One that has stopped may be started again: that is waited for, as there.
        await follower.follow(events, running, forever=bool(ended))


async def _print(
    engine: Engine,
    project: str,
    rows: list[ContainerSummary],
    selection: Selection,
    prefixer: Prefixer,
) -> None:
    streams = [
        read_lines(
            engine.containers, row.id, display_name(row.name, project), selection, follow=False
        )
        for row in rows
    ]
    # Closed at once, whatever ends it: a pipe whose reader has gone, too.
    async with aclosing(merge(streams)) as lines:
        async for line in lines:
            write(prefixer.line(line.name, shown(line, selection)), line.source)


def _prefixer(project: str, rows: list[ContainerSummary], colour: bool, show: bool) -> Prefixer:
    return Prefixer([display_name(row.name, project) for row in rows], colour, show)


def write(text: str, source: Source) -> None:
    """Lines of both streams go to standard output: they are this command's result."""
    print(text, flush=True)
