"""`pycompose top`: the processes of the project's containers."""

import asyncio
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, project_containers
from compose.cli.render import table


def register(app: typer.Typer) -> None:
    @app.command("top")
    def top(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
    ) -> int:
        print(asyncio.run(_top(ctx.obj, services or [])), end="")
        return 0


async def _top(context: Context, services: list[str]) -> str:
    name, project = find_project(context)
    check_services(project, services)
    engine = await context.engine()
    containers = await project_containers(engine, name, services, all=False)
    tables = await asyncio.gather(*(engine.containers.top(row.id) for row in containers))
    return "".join(
        f"{row.name}\n{table(processes.titles, processes.processes)}\n\n"
        for row, processes in zip(containers, tables, strict=True)
    )
