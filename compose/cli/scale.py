"""`pycompose scale`: how many containers a service has, until the files say otherwise."""

import asyncio
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.up import converged, scales
from compose.converge import UpOptions
from compose.plan.options import PlanOptions


def register(app: typer.Typer) -> None:
    @app.command("scale")
    def scale(
        ctx: typer.Context,
        pairs: Annotated[list[str], typer.Argument(metavar="SERVICE=NUMBER", hidden=True)],
        no_deps: Annotated[bool, typer.Option("--no-deps", help="Not what they need.")] = False,
    ) -> int:
        context: Context = ctx.obj
        wanted = scales(pairs, context.load())
        project = context.load(tuple(wanted), with_dependencies=not no_deps)
        options = PlanOptions(services=frozenset(wanted), scale=wanted, no_deps=no_deps)

        async def work() -> None:
            await converged(context, await context.engine(), project, UpOptions(options))

        asyncio.run(work())
        return 0
