"""`pycompose stop`: stop containers, in reverse order of dependency."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from compose import converge
from compose.cli.context import Context
from compose.cli.find import check_services, find_project
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("stop")
    def stop(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        timeout: Annotated[
            int | None,
            typer.Option(
                "-t", "--timeout", help="Seconds until they are killed.", metavar="SECONDS"
            ),
        ] = None,
    ) -> int:
        context: Context = ctx.obj

        async def work() -> None:
            name, project = find_project(context, lenient=True)
            check_services(project, services or ())
            engine = await context.engine()
            with progress(context) as listener:
                await converge.stop(
                    engine, name, project, services=services or (), timeout=timeout,
                    listener=listener,
                )  # fmt: skip

        asyncio.run(work())
        return 0
