"""`pyengine exec`."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.errors import Conflict, NotFound
from compose.client.terminal import converse, stdin_is_terminal, terminal_size
from compose.errors import UsageError
from engine.cli.containers.create import read_text
from engine.cli.containers.creation import Here, environment
from engine.cli.options import Container
from engine.cli.session import on_engine, session
from engine.containers.streams import DetachKeys, parse_detach_keys


def exec_(
    ctx: typer.Context,
    container: Container,
    command: Annotated[list[str], typer.Argument(metavar="COMMAND...", hidden=True)],
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Don't wait for it.")] = False,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", help="What leaves it (ctrl-p,ctrl-q).", metavar="KEYS")
    ] = "",
    env: Annotated[
        list[str] | None,
        typer.Option(
            "-e", "--env", help="A variable; without =, as it is here.", metavar="NAME[=VALUE]"
        ),
    ] = None,
    env_file: Annotated[
        list[str] | None, typer.Option("--env-file", help="A file of variables.", metavar="FILE")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Pass standard input on.")
    ] = False,
    privileged: Annotated[
        bool, typer.Option("--privileged", help="With all capabilities.")
    ] = False,
    tty: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
    user: Annotated[
        str,
        typer.Option("-u", "--user", help="Who runs it.", metavar="NAME|UID[:GROUP]"),
    ] = "",
    workdir: Annotated[
        str, typer.Option("-w", "--workdir", help="Where it starts.", metavar="PATH")
    ] = "",
) -> int:
    at = session(ctx)
    here = Here(str(at.directory), at.environment, lambda path: read_text(at.directory, path))
    variables = environment(env or [], env_file or [], here)
    keys = DetachKeys(parse_detach_keys(detach_keys))
    if tty and interactive and not detach and not stdin_is_terminal():
        raise UsageError("cannot use -it: standard input is no terminal\n  hint: leave -t out")

    async def work(engine: Engine) -> int:
        body = {
            "Cmd": [*command],
            "User": user,
            "Privileged": privileged,
            "WorkingDir": workdir,
            "Env": variables,
            "Tty": tty,
            **({"ConsoleSize": [*size]} if tty and (size := terminal_size()) else {}),
            "DetachKeys": detach_keys,
            "AttachStdin": interactive and not detach,
            "AttachStdout": not detach,
            "AttachStderr": not detach,
        }
        answer = await engine.transport.json("POST", f"/containers/{container}/exec", body=body)
        exec_id = fields.text(fields.mapping(answer, "the created exec"), "Id")
        if detach:
            await engine.containers.start_exec_detached(exec_id)
            return 0

        async def resize(height: int, width: int) -> None:
            with contextlib.suppress(Conflict, NotFound):  # it is about to end
                await engine.containers.resize_exec(exec_id, height=height, width=width)

        duplex = await engine.containers.start_exec(exec_id, tty=tty)
        try:
            ended = await converse(duplex, is_tty=tty, stdin=interactive, resize=resize, keys=keys)
        finally:
            await duplex.close()
        return (await engine.containers.inspect_exec(exec_id)).exit_code or 0 if ended else 0

    return on_engine(ctx, work)
