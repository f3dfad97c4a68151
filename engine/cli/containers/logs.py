"""`pyengine logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client.engine import Engine
from compose.client.moments import api_time
from compose.client.streams import Source, outputs
from compose.client.terminal import write_all
from engine.cli.options import Container
from engine.cli.session import on_engine


def logs(
    ctx: typer.Context,
    container: Container,
    details: Annotated[bool, typer.Option("--details", help="What --log-opt added.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for more.")] = False,
    since: Annotated[
        str, typer.Option("--since", help="Not before: 10m, 2026-01-31T10:00:00 or seconds.")
    ] = "",
    until: Annotated[str, typer.Option("--until", help="Not after.")] = "",
    tail: Annotated[
        str, typer.Option("-n", "--tail", help="Only the last N.", metavar="N")
    ] = "all",
    timestamps: Annotated[bool, typer.Option("-t", "--timestamps", help="When it was.")] = False,
) -> None:
    query = {
        "stdout": True,
        "stderr": True,
        "details": details,
        "follow": follow,
        "since": api_time(since, "--since") or None,
        "until": api_time(until, "--until") or None,
        "tail": tail,
        "timestamps": timestamps,
    }

    async def work(engine: Engine) -> None:
        tty = (await engine.containers.inspect(container)).tty
        async with engine.transport.stream(
            "GET", f"/containers/{container}/logs", query=query
        ) as answer:
            async for output in outputs(answer.chunks, tty=tty):
                write_all(2 if output.source is Source.STDERR else 1, output.text)

    on_engine(ctx, work)
