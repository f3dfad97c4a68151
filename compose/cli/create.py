"""`pycompose create`: everything that `up` makes, without starting it."""

import asyncio
import sys
from typing import Annotated

import typer

from compose import converge
from compose.cli.change import Services
from compose.cli.context import PULLS, Context, choice
from compose.cli.progress import progress
from compose.cli.up import refuse, scales
from compose.converge import UpOptions
from compose.plan.options import PlanOptions


def register(app: typer.Typer) -> None:
    @app.command("create")
    def create(
        ctx: typer.Context,
        services: Services = None,
        force_recreate: Annotated[
            bool, typer.Option("--force-recreate", help="Even what is up to date.")
        ] = False,
        no_recreate: Annotated[
            bool, typer.Option("--no-recreate", help="Leave what exists as it is.")
        ] = False,
        build: Annotated[
            bool, typer.Option("--build", help="Build images also where they are there.")
        ] = False,
        no_build: Annotated[
            bool, typer.Option("--no-build", help="Build none, even where they are missing.")
        ] = False,
        pull: Annotated[
            str, typer.Option("--pull", help="always, missing or never.", metavar="WHEN")
        ] = "",
        remove_orphans: Annotated[
            bool, typer.Option("--remove-orphans", help="Containers of services that are gone.")
        ] = False,
        scale: Annotated[
            list[str] | None,
            typer.Option("--scale", help="How many containers of it.", metavar="SERVICE=NUMBER"),
        ] = None,
        quiet_pull: Annotated[bool, typer.Option("--quiet-pull", hidden=True)] = False,
        yes: Annotated[bool, typer.Option("-y", "--yes", hidden=True)] = False,
    ) -> int:
        context: Context = ctx.obj
        refuse(force_recreate and no_recreate, "--force-recreate", "--no-recreate")
        refuse(build and no_build, "--build", "--no-build")
        project = context.load(tuple(services or ()))
        options = PlanOptions(
            services=frozenset(services or ()),
            force_recreate=force_recreate,
            no_recreate=no_recreate,
            remove_orphans=remove_orphans or context.is_on("COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans=context.is_on("COMPOSE_IGNORE_ORPHANS"),
            scale=scales(scale or (), project),
            pull=choice("--pull", pull, PULLS),
            build="always" if build else "never" if no_build else "",
        )

        async def work() -> None:
            engine = await context.engine()
            with progress(context, builds=sys.stdout) as listener:
                outcome = await converge.create(engine, project, UpOptions(options), listener)
            for note in outcome.plan.notes:
                context.say(f"warning: {note}")

        asyncio.run(work())
        return 0
