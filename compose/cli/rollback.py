"""`pycompose rollback`: make what runs what an earlier revision declared."""

import asyncio
from typing import Annotated

import typer

from compose import converge, history
from compose.cli.context import REHEARSAL, Context
from compose.cli.find import find_project
from compose.cli.plan import show_plan
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("rollback")
    def rollback(
        ctx: typer.Context,
        number: Annotated[
            int,
            typer.Argument(metavar="[REVISION]", help="Else the one before the last.", min=0),
        ] = 0,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Say what would happen, and why.")
        ] = False,
    ) -> int:
        context: Context = ctx.obj

        async def work() -> None:
            name, _ = find_project(context)
            engine = await context.engine()
            wanted = number or (await history.previous(engine, name)).number
            if dry_run:
                plan = await converge.plan_rollback(engine, name, wanted)
                show_plan(context, plan, line_start=REHEARSAL)
                return
            with progress(context) as listener:
                outcome = await converge.rollback(engine, name, wanted, listener)
            if outcome.plan.is_empty:
                context.say(f"{name} runs as in revision {wanted} already")
            else:
                context.say(f"{name} runs as in revision {wanted}")

        asyncio.run(work())
        return 0
