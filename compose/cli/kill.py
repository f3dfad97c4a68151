"""`pycompose kill`: send a signal to the containers."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from compose import converge
from compose.cli.context import Context
from compose.cli.find import check_services, find_project
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("kill")
    def kill(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        signal: Annotated[
            str,
            typer.Option("-s", "--signal", metavar="SIGNAL", help="Which; SIGKILL if not given."),
        ] = "SIGKILL",
    ) -> int:
        context: Context = ctx.obj

        async def work() -> None:
            name, project = find_project(context, lenient=True)
            check_services(project, services or ())
            engine = await context.engine()
            with progress(context) as listener:
                await converge.kill(
                    engine, name, services=services or (), signal=signal, listener=listener
                )

        asyncio.run(work())
        return 0
