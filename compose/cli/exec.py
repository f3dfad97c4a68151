"""`pycompose exec`: a command in a running container."""

import asyncio
import shlex
from collections.abc import Mapping
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, one_container
from compose.client.terminal import converse, stdin_is_terminal

NoTty = Annotated[bool, typer.Option("-T", "--no-tty", help="No terminal.")]
Interactive = Annotated[
    bool, typer.Option("-i/ ", "--interactive/--no-interactive", help="Pass standard input on.")
]
Tty = Annotated[
    bool, typer.Option("-t", "--tty", hidden=True, help="As it is anyway at a terminal.")
]


def register(app: typer.Typer) -> None:
    @app.command("exec", context_settings={"allow_interspersed_args": False})
    def exec_(
        ctx: typer.Context,
        service: Annotated[str, typer.Argument(metavar="SERVICE", hidden=True)],
        command: Annotated[list[str], typer.Argument(metavar="COMMAND", hidden=True)],
        detach: Annotated[bool, typer.Option("-d", "--detach", help="Don't wait for it.")] = False,
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
        privileged: Annotated[
            bool, typer.Option("--privileged", help="With all capabilities.")
        ] = False,
        no_tty: NoTty = False,
        interactive: Interactive = True,
        tty: Tty = False,
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
    ) -> int:
        context: Context = ctx.obj

        async def work() -> int:
            name, project = find_project(context)
            check_services(project, [service])
            known = project.environment if project else context.environment
            environment = tuple(given(known, pair) for pair in env or ())
            engine = await context.engine()
            container = await one_container(engine, name, service, index)
            engine.would(f"run in {container.name}: {shlex.join(command)}")
            is_tty = not no_tty and not detach and stdin_is_terminal()
            exec_id = await engine.containers.create_exec(
                container.id,
                command,
                user=user,
                privileged=privileged,
                working_dir=workdir,
                environment=environment,
                tty=is_tty,
                stdin=not detach,
                output=not detach,
            )
            if detach:
                await engine.containers.start_exec_detached(exec_id)
                return 0

            async def resize(height: int, width: int) -> None:
                await engine.containers.resize_exec(exec_id, height=height, width=width)

            duplex = await engine.containers.start_exec(exec_id, tty=is_tty)
            try:
                await converse(duplex, is_tty=is_tty, stdin=interactive, resize=resize)
            finally:
                await duplex.close()
            return (await engine.containers.inspect_exec(exec_id)).exit_code or 0

        return asyncio.run(work())


def given(known: Mapping[str, str], pair: str) -> str:
    """`NAME=value` as it is; `NAME` takes its value from what the files' variables are looked up
    in; where that has none, the variable isn't set: what the engine makes of a name alone."""
    name, equals, _ = pair.partition("=")
    if equals or name not in known:
        return pair
    return f"{name}={known[name]}"
