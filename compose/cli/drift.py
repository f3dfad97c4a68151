"""`pycompose drift`: where what runs has departed from what was last applied."""

import asyncio
from typing import Annotated

import typer

from compose import converge, history
from compose.cli.context import Context
from compose.cli.find import find_project
from compose.cli.plan import CHANGES, show_plan
from compose.cli.render import check_format
from compose.plan.plan import Plan


def register(app: typer.Typer) -> None:
    @app.command("drift")
    def drift(
        ctx: typer.Context,
        format: Annotated[
            str, typer.Option("--format", help="text or json.", metavar="FORMAT")
        ] = "text",
    ) -> int:
        """The exit code is 2 where something has."""
        check_format(format, ("text", "json"))
        context: Context = ctx.obj

        async def work() -> tuple[Plan, int]:
            name, _ = find_project(context)
            engine = await context.engine()
            last = await history.latest(engine, name)
            plan, _, _ = await converge.plan_healing(engine, last, name)
            return plan, last.number

        plan, number = asyncio.run(work())
        if plan.is_empty and format == "text":
            context.say(f"{plan.project} runs as in revision {number}")
        else:
            show_plan(context, plan, format)
        return 0 if plan.is_empty else CHANGES
