"""What the commands share that change containers of some services and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated

import typer

from compose.apply.listener import Listener
from compose.cli.context import Context
from compose.cli.find import check_services, find_project, meant
from compose.cli.progress import progress
from compose.client.engine import Engine
from compose.model.project import Project

Services = Annotated[list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)]
Timeout = Annotated[
    int | None,
    typer.Option("-t", "--timeout", help="Seconds until they are killed.", metavar="SECONDS"),
]
Change = Callable[[Engine, str, Project | None, Sequence[str] | None, Listener], Awaitable[object]]


def change(context: Context, services: Sequence[str] | None, work: Change) -> int:
    """Find the project, the services that are meant and the engine, and show the progress of
    `work`. The exit code."""

    async def run() -> None:
        name, project = find_project(context)
        check_services(project, services or ())
        engine = await context.engine()
        with progress(context) as listener:
            await work(engine, name, project, meant(context, project, services), listener)

    asyncio.run(run())
    return 0
