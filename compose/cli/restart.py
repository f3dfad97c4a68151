"""`pycompose restart`: restart containers, and what has to follow."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from compose import converge
from compose.cli.context import Context
from compose.cli.find import check_services, find_project
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("restart")
    def restart(
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
        no_deps: Annotated[
            bool, typer.Option("--no-deps", help="Not those that depend on them.")
        ] = False,
    ) -> int:
        context: Context = ctx.obj

        async def work() -> None:
            name, project = find_project(context)
            check_services(project, services or ())
            engine = await context.engine()
            with progress(context) as listener:
                await converge.restart(
                    engine, name, project, services=services or (), timeout=timeout,
                    no_deps=no_deps, listener=listener,
                )  # fmt: skip

        asyncio.run(work())
        return 0
