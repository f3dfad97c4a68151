"""`pycompose watch`: follow changes of the files."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.progress import progress
from compose.client.engine import Engine
from compose.converge import UpOptions
from compose.model.project import Project
from compose.plan.names import PROJECT
from compose.plan.options import PlanOptions


def register(app: typer.Typer) -> None:
    @app.command("watch")
    def watch(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        no_up: Annotated[
            bool, typer.Option("--no-up", help="Don't bring the project up first.")
        ] = False,
        quiet: Annotated[bool, typer.Option("--quiet", help="Not what builds write.")] = False,
        prune: Annotated[
            bool, typer.Option("--prune/--no-prune", help="Remove images that builds replaced.")
        ] = True,
    ) -> int:
        context: Context = ctx.obj
        context = context.quieter(builds=quiet)
        project = context.load(tuple(services or ()))

        async def work() -> int:
            engine = await context.engine()
            if not no_up:
                from compose.cli.up import converged

                # What was edited before is to be in the images, too: only later changes are seen.
                first = options(services or ())
                first = replace(first, plan=replace(first.plan, build="always"))
                await converged(context, engine, project, first)
            try:
                return await watching(context, engine, project, services or ())
            finally:
                if prune:
                    await engine.images.prune({"label": [f"{PROJECT}={project.name}"]})

        return asyncio.run(work())


async def watching(
    context: Context, engine: Engine, project: Project, services: Sequence[str]
) -> int:
    """Until interrupted."""
    from compose.watch.session import Session

    session = Session(
        engine=engine,
        project=project,
        load=lambda: context.load(tuple(services)),
        say=context.say,
        progress=partial(progress, context),
        options=options(services),
    )
    await session.run()
    return 0


def options(services: Sequence[str]) -> UpOptions:
    return UpOptions(PlanOptions(services=frozenset(services)), command="watch")
