"""`pycompose down`: stop and remove what the project has on the engine."""

import asyncio
from typing import Annotated

import typer

from compose import life
from compose.cli.context import Context
from compose.cli.find import check_services, find_project
from compose.cli.progress import progress
from compose.plan.options import DownOptions


def register(app: typer.Typer) -> None:
    @app.command("down")
    def down(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        volumes: Annotated[
            bool, typer.Option("-v", "--volumes", help="Volumes too: their data is lost.")
        ] = False,
        remove_orphans: Annotated[
            bool, typer.Option("--remove-orphans", help="Containers of services that are gone.")
        ] = False,
        rmi: Annotated[
            str, typer.Option("--rmi", help="Images too: local or all.", metavar="WHICH")
        ] = "",
        timeout: Annotated[
            int | None,
            typer.Option("-t", "--timeout", help="Seconds for each to stop.", metavar="SECONDS"),
        ] = None,
    ) -> int:
        if rmi not in ("", "local", "all"):
            raise typer.BadParameter(f"--rmi: {rmi!r} is none of local, all")
        context: Context = ctx.obj
        options = DownOptions(
            services=frozenset(services or ()),
            by_name=context.by_name,
            volumes=volumes,
            remove_orphans=remove_orphans or context.is_on("COMPOSE_REMOVE_ORPHANS"),
            images=rmi,
            timeout=timeout,
        )

        async def work() -> None:
            # Files that miss something must not stand in the way of taking things down.
            name, project = find_project(context)
            check_services(project, services or ())
            engine = await context.engine()
            with progress(context) as listener:
                outcome = await life.down(engine, name, project, options, listener)
            for note in outcome.plan.notes:
                context.say(f"warning: {note}")
            if outcome.plan.is_empty:
                context.say(f"{name} has nothing to remove")

        asyncio.run(work())
        return 0
