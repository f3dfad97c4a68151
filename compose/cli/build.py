"""`pycompose build`: make the services' images."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from compose import converge
from compose.apply.listener import Building, Listener, Report
from compose.cli.context import Context
from compose.cli.progress import chosen, progress
from compose.errors import UsageError
from compose.plan.options import PlanOptions


def register(app: typer.Typer) -> None:
    @app.command("build")
    def build(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        build_arg: Annotated[
            list[str] | None,
            typer.Option("--build-arg", help="An ARG of the Dockerfiles.", metavar="NAME=VALUE"),
        ] = None,
        no_cache: Annotated[
            bool, typer.Option("--no-cache", help="Do every step, whatever was built before.")
        ] = False,
        pull: Annotated[
            bool, typer.Option("--pull", help="Get base images anew from their registries.")
        ] = False,
        push: Annotated[bool, typer.Option("--push", hidden=True)] = False,
        with_dependencies: Annotated[
            bool, typer.Option("--with-dependencies", help="Also what they need.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing.")] = False,
    ) -> int:
        if push:
            raise UsageError("cannot push what is built yet\n  hint: docker push sends it")
        context: Context = ctx.obj
        project = context.load(tuple(services or ()), with_dependencies=with_dependencies)
        options = PlanOptions(
            no_cache=no_cache, pull_bases=pull, build_args=arguments(context, build_arg or [])
        )

        async def work() -> None:
            engine = await context.engine()
            with progress(context, quiet=quiet) as listener:
                shown = listener if quiet or chosen(context) != "plain" else said(context, listener)
                outcome = await converge.build(engine, project, options, shown)
            if outcome.plan.is_empty:
                context.say("there is nothing to build")

        asyncio.run(work())
        return 0


def said(context: Context, listener: Listener) -> Listener:
    """Where lines are written one after the other, those of the builds are, too."""

    def listen(report: Report, /) -> None:
        listener(report)
        if isinstance(report, Building) and report.line:
            context.say(f"{report.reference} | {report.line}")

    return listen


def arguments(context: Context, pairs: list[str]) -> dict[str, str]:
    """A name alone takes the environment's value, if there is one."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name:
            raise UsageError(f"cannot read --build-arg {pair!r}\n  hint: write NAME=VALUE")
        if equals:
            found[name] = value
        elif name in context.environment:
            found[name] = context.environment[name]
    return found
