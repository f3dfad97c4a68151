"""`pyengine start`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.errors import UsageError
from engine.cli.containers.talk import Wishes, start_and_talk
from engine.cli.options import Containers
from engine.cli.session import on_engine


def start(
    ctx: typer.Context,
    containers: Containers,
    attach: Annotated[
        bool, typer.Option("-a", "--attach", help="Show its output, pass signals on.")
    ] = False,
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Pass standard input on.")
    ] = False,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", help="What leaves it (ctrl-p,ctrl-q).", metavar="KEYS")
    ] = "",
) -> int:
    if attach or interactive:
        if len(containers) > 1:
            raise UsageError("cannot start and attach to several containers at once")

        async def talk(engine: Engine) -> int:
            details = await engine.containers.inspect(containers[0])
            host = details.document.get("HostConfig")
            removed = isinstance(host, dict) and bool(host.get("AutoRemove"))
            wishes = Wishes(
                tty=details.tty, stdin=interactive and details.open_stdin, detach_keys=detach_keys
            )
            return await start_and_talk(engine, details.id, wishes, removed=removed)

        return on_engine(ctx, talk)

    async def work(engine: Engine) -> int:
        code = 0
        for name in containers:  # one after the other: a later one may need an earlier one
            try:
                await engine.containers.start(name)
                print(name, flush=True)
            except ClientError as error:
                print(f"pyengine: {error}", file=sys.stderr)
                code = 1
        return code

    return on_engine(ctx, work)
