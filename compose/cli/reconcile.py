"""`pycompose reconcile`: bring back whatever departs from what was last applied."""

import asyncio
from functools import partial

import typer

from compose.cli.context import Context
from compose.cli.find import find_project
from compose.cli.progress import progress


def register(app: typer.Typer) -> None:
    @app.command("reconcile")
    def reconcile(ctx: typer.Context) -> int:
        context: Context = ctx.obj
        name, _ = find_project(context)
        return asyncio.run(reconciling(context, name))


async def reconciling(context: Context, name: str, *, fresh: bool = False) -> int:
    """Until interrupted. `fresh`: right after an `up`."""
    from compose.watch.reconcile import Reconciler

    shown = partial(progress, context)
    await Reconciler(name, context.engine, context.say, shown, fresh=fresh).run()
    return 0
