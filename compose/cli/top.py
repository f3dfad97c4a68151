"""`pycompose top`: the processes of the project's containers."""

import asyncio
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, number, project_containers
from compose.cli.render import table
from compose.plan.names import SERVICE


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
    containers = await project_containers(engine, name, services or None, all=False, oneoff=True)
    tables = await asyncio.gather(*(engine.containers.top(row.id) for row in containers))
    rows = [
        {"SERVICE": row.labels.get(SERVICE, ""), "#": str(number(row) or ""),
         **dict(zip(processes.titles, process, strict=True))}
        for row, processes in zip(containers, tables, strict=True)
        for process in processes.processes
    ]  # fmt: skip
    if not rows:
        return ""
    titles = dict.fromkeys(title for row in rows for title in row)
    if "CMD" in titles:  # on the right, where its length harms no column
        titles["CMD"] = titles.pop("CMD")
    return table([*titles], ([row.get(title, "-") for title in titles] for row in rows)) + "\n"
