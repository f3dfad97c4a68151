"""`pycompose push`: send the images that the services build to their registries."""

import asyncio
import sys
from typing import Annotated

import typer

from compose import life
from compose.apply.errors import StepsFailed
from compose.cli.context import Context
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("push")
    def push(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        ignore_push_failures: Annotated[
            bool, typer.Option("--ignore-push-failures", help="Push what can be, and go on.")
        ] = False,
        include_deps: Annotated[
            bool, typer.Option("--include-deps", help="Also of what they need.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing.")] = False,
    ) -> int:
        context: Context = ctx.obj
        project = context.load(tuple(services or ()), with_dependencies=include_deps)

        async def work() -> None:
            engine = await context.engine()
            try:
                with progress(context, quiet=quiet) as listener:
                    outcome = await life.push(engine, project, listener=listener)
            except StepsFailed as error:
                if not ignore_push_failures:
                    raise
                print(f"warning: {error}", file=sys.stderr)
                return
            if outcome.plan.is_empty:
                context.say("there is nothing to push: no service has both build and image")

        asyncio.run(work())
        return 0
