"""`pycompose start`: start containers that are there."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from compose import converge
from compose.cli.context import Context
from compose.cli.find import check_services, find_project
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("start")
    def start(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        wait: Annotated[bool, typer.Option("--wait", help="Until all run or are healthy.")] = False,
        wait_timeout: Annotated[
            float | None,
            typer.Option("--wait-timeout", metavar="SECONDS", help="Seconds to wait at the most."),
        ] = None,
    ) -> int:
        context: Context = ctx.obj

        async def work() -> None:
            name, project = find_project(context)
            check_services(project, services or ())
            engine = await context.engine()
            with progress(context) as listener:
                await converge.start(
                    engine, name, project, services=services or (), wait=wait,
                    wait_timeout=wait_timeout, listener=listener,
                )  # fmt: skip

        asyncio.run(work())
        return 0
