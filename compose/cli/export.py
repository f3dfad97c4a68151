"""`pycompose export`: a container's whole file system as a tar."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, one_container
from compose.errors import UsageError


def register(app: typer.Typer) -> None:
    @app.command("export")
    def export(
        ctx: typer.Context,
        service: Annotated[str, typer.Argument(metavar="SERVICE", hidden=True)],
        output: Annotated[
            str, typer.Option("-o", "--output", help="A file, not the output.", metavar="FILE")
        ] = "",
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
    ) -> int:
        if not output and sys.stdout.isatty():
            raise UsageError(
                "a tar is nothing for a terminal\n  hint: write it to a file with --output FILE"
            )
        asyncio.run(_export(ctx.obj, service, output, index))
        return 0


async def _export(context: Context, service: str, output: str, index: int) -> None:
    name, project = find_project(context)
    check_services(project, [service])
    engine = await context.engine()
    container = await one_container(engine, name, service, index)
    engine.would(f"write the files of {container.name} to {output or 'standard output'}")
    async with engine.containers.export(container.id) as blocks:
        if not output:
            async for block in blocks:
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return
        # Whole or not at all: a tar that broke off must not look like one.
        target = context.directory / output
        unfinished = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with open(unfinished, "wb") as stream:
                async for block in blocks:
                    stream.write(block)
            os.replace(unfinished, target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
