"""`pycompose pull`: get the services' images."""

import asyncio
from dataclasses import replace
from typing import Annotated

import typer

from compose import life
from compose.cli.context import Context
from compose.cli.progress import progress
from compose.errors import ApplyError


def register(app: typer.Typer) -> None:
    @app.command("pull")
    def pull(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        policy: Annotated[
            str, typer.Option("--policy", help="always or missing.", metavar="WHEN")
        ] = "",
        include_deps: Annotated[
            bool, typer.Option("--include-deps", help="Also of what they need.")
        ] = False,
        ignore_buildable: Annotated[
            bool, typer.Option("--ignore-buildable", help="Not what can be built here.")
        ] = False,
        ignore_pull_failures: Annotated[
            bool, typer.Option("--ignore-pull-failures", help="Get what there is.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing.")] = False,
        # Of older versions; they change nothing there either.
        parallel: Annotated[bool, typer.Option("--parallel", hidden=True)] = False,
        no_parallel: Annotated[bool, typer.Option("--no-parallel", hidden=True)] = False,
    ) -> int:
        if policy not in ("", "always", "missing"):
            raise typer.BadParameter(f"--policy: {policy!r} is none of always, missing")
        context: Context = ctx.obj
        project = context.load(tuple(services or ()), with_dependencies=include_deps)

        if ignore_buildable:
            rest = {n: s for n, s in project.services.items() if s.build is None}
            project = replace(project, services=rest)

        async def work() -> None:
            engine = await context.engine()
            with progress(context, quiet=quiet) as listener:
                if ignore_pull_failures:
                    for name, service in project.services.items():
                        alone = replace(project, services={name: service})
                        try:
                            await life.pull(engine, alone, policy=policy, listener=listener)
                        except ApplyError as error:
                            context.say(f"warning: {error}")
                    return
                outcome = await life.pull(engine, project, policy=policy, listener=listener)
            if outcome.plan.is_empty:
                context.say("there is nothing to pull")

        asyncio.run(work())
        return 0
