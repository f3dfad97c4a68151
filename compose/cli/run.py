"""`pycompose run`: a service's container once more, with a command of one's own."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from compose import one_off
from compose.apply.errors import hint_for
from compose.cli.context import PULLS, Context, choice
from compose.cli.exec import Interactive, NoTty, Tty, given
from compose.cli.progress import progress
from compose.client.engine import Engine
from compose.client.errors import ApiError, Conflict, NotFound, code_of_refusal
from compose.client.terminal import converse, stdin_is_terminal
from compose.errors import UsageError
from compose.model.project import Project
from compose.plan.run import RunOptions


def register(app: typer.Typer) -> None:
    @app.command("run", context_settings={"allow_interspersed_args": False})
    def run(
        ctx: typer.Context,
        service: Annotated[str, typer.Argument(metavar="SERVICE", hidden=True)],
        command: Annotated[list[str] | None, typer.Argument(metavar="COMMAND", hidden=True)] = None,
        detach: Annotated[bool, typer.Option("-d", "--detach", help="Print its name.")] = False,
        rm: Annotated[bool, typer.Option("--rm", help="Remove it when it has ended.")] = False,
        env: Annotated[
            list[str] | None,
            typer.Option(
                "-e",
                "--env",
                help="A variable; without =, with its value from here.",
                metavar="NAME[=VALUE]",
            ),
        ] = None,
        user: Annotated[
            str,
            typer.Option("-u", "--user", metavar="USER", help="Who runs it: name or uid[:group]."),
        ] = "",
        workdir: Annotated[
            str, typer.Option("-w", "--workdir", metavar="FOLDER", help="Where it runs.")
        ] = "",
        entrypoint: Annotated[
            str | None,
            typer.Option("--entrypoint", metavar="COMMAND", help="Instead of the image's."),
        ] = None,
        name: Annotated[
            str, typer.Option("--name", help="The container's name.", metavar="NAME")
        ] = "",
        label: Annotated[
            list[str] | None,
            typer.Option("-l", "--label", metavar="NAME=VALUE", help="A label of the container."),
        ] = None,
        volume: Annotated[
            list[str] | None,
            typer.Option(
                "-v",
                "--volume",
                help="Mount this too; :ro for reading only.",
                metavar="SOURCE:TARGET",
            ),
        ] = None,
        publish: Annotated[
            list[str] | None,
            typer.Option("-p", "--publish", help="Publish this port.", metavar="[HOST:]PORT"),
        ] = None,
        service_ports: Annotated[
            bool, typer.Option("-P", "--service-ports", help="Publish the service's own ports.")
        ] = False,
        use_aliases: Annotated[
            bool, typer.Option("--use-aliases", help="Answer to the service's name.")
        ] = False,
        no_deps: Annotated[bool, typer.Option("--no-deps", help="Not what they need.")] = False,
        build: Annotated[
            bool, typer.Option("--build", help="Build images also where they are there.")
        ] = False,
        no_tty: NoTty = False,
        interactive: Interactive = True,
        tty: Tty = False,
        env_from_file: Annotated[
            list[str] | None,
            typer.Option("--env-from-file", help="Variables of a file.", metavar="FILE"),
        ] = None,
        cap_add: Annotated[
            list[str] | None,
            typer.Option("--cap-add", help="A capability more.", metavar="CAPABILITY"),
        ] = None,
        cap_drop: Annotated[
            list[str] | None,
            typer.Option("--cap-drop", help="A capability less.", metavar="CAPABILITY"),
        ] = None,
        pull: Annotated[
            str, typer.Option("--pull", help="always, missing or never.", metavar="WHEN")
        ] = "",
        remove_orphans: Annotated[
            bool, typer.Option("--remove-orphans", help="Containers of services that are gone.")
        ] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only its own output.")] = False,
        quiet_build: Annotated[
            bool, typer.Option("--quiet-build", help="Not what builds write.")
        ] = False,
        quiet_pull: Annotated[
            bool, typer.Option("--quiet-pull", help="Not how far each pull is.")
        ] = False,
    ) -> int:
        context: Context = ctx.obj
        context = context.quieter(pulls=quiet_pull or quiet, builds=quiet_build or quiet)
        if quiet:
            context = replace(context, progress="quiet")
        project = context.load((service,))
        is_tty = not no_tty and not detach and stdin_is_terminal()
        options = RunOptions(
            service=service,
            command=tuple(command) if command else None,
            entrypoint=entrypoint,
            environment=(
                *(pair for path in env_from_file or () for pair in pairs_of(context, path)),
                *(pair for text in env or () if "=" in (pair := given(project.environment, text))),
            ),
            user=user,
            working_dir=workdir,
            name=name,
            labels=tuple(label or ()),
            volumes=tuple(volume or ()),
            publish=tuple(publish or ()),
            service_ports=service_ports,
            use_aliases=use_aliases,
            no_deps=no_deps,
            build="always" if build else "",
            pull=choice("--pull", pull, PULLS),
            cap_add=tuple(cap_add or ()),
            cap_drop=tuple(cap_drop or ()),
            remove_orphans=remove_orphans,
            tty=is_tty,
            ignore_orphans=context.is_on("COMPOSE_IGNORE_ORPHANS"),
            stdin=interactive,
            attached=not detach,
            remove=rm,
            directory=str(context.directory),
        )
        if service not in project.services:
            raise UsageError(f"no such service: {service}")
        return asyncio.run(_run(context, project, options, detach))


def pairs_of(context: Context, path: str) -> list[str]:
    from compose.load.files import read_env_file
    from compose.load.sources import DISK

    file = Path(context.directory, path)
    values = read_env_file(file, path, context.environment, DISK).values()
    return [f"{name}={value}" for name, value in values.items()]


async def _run(context: Context, project: Project, options: RunOptions, detach: bool) -> int:
    engine = await context.engine()
    with progress(context) as listener:
        made = await one_off.make_run(engine, project, options, listener)
    try:
        if detach:
            await engine.containers.start(made.id)
            print(made.id)
            return 0
        return await _converse(engine, made.id, options)
    except ApiError as error:
        if code_of_refusal(error.message) is None:
            raise
        # It never ran: there is nothing in it to look at afterwards. With --rm it goes by itself.
        with contextlib.suppress(NotFound, Conflict):
            await engine.containers.remove(made.id, force=True, volumes=True)
        context.say(f"cannot run {options.service}: {error}{hint_for(error.message)}")
        return 1  # as Docker Compose; docker run says 126 or 127


async def _converse(engine: Engine, container: str, options: RunOptions) -> int:
    containers = engine.containers
    # Before the start, so that neither output nor exit can be missed.
    duplex = await containers.attach(container, stdin=options.stdin)
    condition = "removed" if options.remove else "next-exit"
    try:
        async with containers.waiting(container, condition=condition) as exit_code:
            await containers.start(container)

            async def resize(height: int, width: int) -> None:
                await containers.resize(container, height=height, width=width)

            await converse(duplex, is_tty=options.tty, stdin=options.stdin, resize=resize)
            return await exit_code
    finally:
        await duplex.close()
