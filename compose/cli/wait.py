"""`pycompose wait`: until containers have ended; the exit code is that of the last one."""

import asyncio
from typing import Annotated

import typer

from compose import life
from compose.cli.context import Context
from compose.cli.find import check_services, find_project, project_containers
from compose.cli.progress import progress
from compose.errors import UsageError
from compose.plan.options import DownOptions


def register(app: typer.Typer) -> None:
    @app.command("wait")
    def wait(
        ctx: typer.Context,
        services: Annotated[list[str], typer.Argument(metavar="SERVICE", hidden=True)],
        down_project: Annotated[
            bool, typer.Option("--down-project", help="Take the project down as one ends.")
        ] = False,
    ) -> int:
        return asyncio.run(_wait(ctx.obj, services, down_project))


async def _wait(context: Context, services: list[str], down_project: bool) -> int:
    name, project = find_project(context)
    check_services(project, services)
    engine = await context.engine()
    rows = await project_containers(engine, name, services or None)
    if not rows:
        raise UsageError(
            f"there is no container of {', '.join(services)}"
            "\n  hint: make them with: pycompose up -d"
        )
    context.say(f"waiting for {', '.join(row.name for row in rows)}")
    waiting = {asyncio.create_task(engine.containers.wait(row.id)): row.id for row in rows}
    code = 0
    while waiting:
        ended, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            code = task.result()
            print(f'container "{waiting.pop(task)}" exited with status code {code}', flush=True)
        if down_project and waiting:
            for task in waiting:
                task.cancel()
            await asyncio.wait(waiting)
            break
    if down_project:
        with progress(context) as listener:
            await life.down(engine, name, project, DownOptions(), listener)
    return code
