"""`pycompose rm`: remove stopped containers."""

import asyncio
import sys
from typing import Annotated

import typer

from compose import life
from compose.cli.context import Context
from compose.cli.find import check_services, find_project, meant, project_containers
from compose.cli.progress import progress
from compose.errors import UsageError


def register(app: typer.Typer) -> None:
    @app.command("rm")
    def rm(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        force: Annotated[bool, typer.Option("-f", "--force", help="Don't ask.")] = False,
        stop: Annotated[bool, typer.Option("-s", "--stop", help="Stop them first.")] = False,
        volumes: Annotated[
            bool, typer.Option("-v", "--volumes", help="Their anonymous volumes too.")
        ] = False,
        all: Annotated[bool, typer.Option("-a", "--all", hidden=True)] = False,  # of Compose 1
    ) -> int:
        context: Context = ctx.obj

        async def work() -> None:
            name, project = find_project(context)
            check_services(project, services or ())
            engine = await context.engine()
            about = meant(context, project, services)
            rows = await project_containers(engine, name, about)
            gone = [row.name for row in rows if stop or row.state in ("exited", "created", "dead")]
            if not gone:
                context.say("no stopped containers")
                return
            if not force and not confirmed(f"remove {', '.join(gone)}?"):
                return
            with progress(context) as listener:
                await life.remove(
                    engine, name, project, services=about, stop_first=stop,
                    volumes=volumes, listener=listener,
                )  # fmt: skip

        asyncio.run(work())
        return 0


def confirmed(question: str) -> bool:
    """Raises UsageError where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(f"{question} Nobody is here to say yes\n  hint: say it with --force")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
