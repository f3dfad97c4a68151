"""`pyengine attach`."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client.engine import Engine
from compose.errors import UsageError
from engine.cli.containers.talk import Wishes, attach_and_talk
from engine.cli.options import Container
from engine.cli.session import on_engine


def attach(
    ctx: typer.Context,
    container: Container,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", help="What leaves it (ctrl-p,ctrl-q).", metavar="KEYS")
    ] = "",
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Don't pass standard input on.")
    ] = False,
    sig_proxy: Annotated[
        bool, typer.Option("--sig-proxy/--no-sig-proxy", help="Pass signals on.")
    ] = True,
) -> int:
    async def work(engine: Engine) -> int:
        details = await engine.containers.inspect(container)
        if not details.running or details.status in ("paused", "restarting"):
            raise UsageError(f"cannot attach to {container}: it is {details.status}")
        wishes = Wishes(
            tty=details.tty,
            stdin=details.open_stdin and not no_stdin,
            sig_proxy=sig_proxy,
            detach_keys=detach_keys,
        )
        return await attach_and_talk(engine, details.id, wishes)

    return on_engine(ctx, work)
