"""`pycompose plan`: what `up` would change, and why. Touches nothing."""

import asyncio
import json
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from compose import converge
from compose.cli.context import Context
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.plan.text import page

CHANGES = 2  # the exit code when there is something to do


def register(app: typer.Typer) -> None:
    @app.command("plan")
    def plan(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        format: Annotated[
            str, typer.Option("--format", help="text or json.", metavar="FORMAT")
        ] = "text",
        output: Annotated[
            str,
            typer.Option("-o", "--output", help="Keep it for up --plan FILE.", metavar="FILE"),
        ] = "",
        detailed_exitcode: Annotated[
            bool, typer.Option("--detailed-exitcode", hidden=True, help="It is always so.")
        ] = False,
        remove_orphans: Annotated[
            bool, typer.Option("--remove-orphans", help="Containers of services that are gone.")
        ] = False,
        force_recreate: Annotated[
            bool, typer.Option("--force-recreate", help="Even what is up to date.")
        ] = False,
        no_deps: Annotated[bool, typer.Option("--no-deps", help="Not what they need.")] = False,
    ) -> int:
        from compose.cli.render import check_format  # not for `up`, which shows plans, too

        check_format(format, ("text", "json"))
        context: Context = ctx.obj
        project = context.load(tuple(services or ()))
        options = PlanOptions(
            services=frozenset(services or ()),
            remove_orphans=remove_orphans or context.is_on("COMPOSE_REMOVE_ORPHANS"),
            ignore_orphans=context.is_on("COMPOSE_IGNORE_ORPHANS"),
            force_recreate=force_recreate,
            no_deps=no_deps,
        )

        async def work() -> Plan:
            engine = await context.engine()
            if output:
                path = Path(context.directory, output)
                return await converge.write_plan(engine, project, options, path)
            return await converge.plan_up(engine, project, options)

        made = asyncio.run(work())
        show_plan(context, made, format)
        return 0 if made.is_empty else CHANGES


def columns() -> int | None:
    """Of the terminal; None: it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def show_plan(context: Context, plan: Plan, format: str = "text", *, line_start: str = "") -> int:
    if format == "json":
        print(json.dumps(plan.to_document(), indent=2))
        return 0
    for note in plan.notes:
        context.say(f"warning: {note}")
    if plan.is_empty:
        context.say(f"{plan.project} is up to date: nothing would change")
    else:
        width = columns()
        lines = page(plan, width and width - len(line_start)).splitlines()
        print("".join(f"{line_start}{line}\n" for line in lines), end="")
    return 0
