"""`pycompose lock`: write down which images and build contexts are meant."""

import asyncio

import typer

from compose.cli.context import Context
from compose.client.human import counted
from compose.load.files import label
from compose.lockfile import Lock, lock_path, make_lock, write_lock


def register(app: typer.Typer) -> None:
    @app.command("lock")
    def lock(ctx: typer.Context) -> int:
        context: Context = ctx.obj
        project = context.load()

        async def work() -> Lock:
            return await make_lock(await context.engine(), project)

        made = asyncio.run(work())
        path = lock_path(project)
        path.write_text(write_lock(made))
        shown = label(path, context.directory)
        context.say(
            f"{shown}: {counted(len(made.images), 'image')}, "
            f"{counted(len(made.builds), 'build context')}"
        )
        return 0
