"""Commands that move containers from one state to another, each for any number of them."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client.engine import Engine
from engine.cli.complete import signal_names
from engine.cli.options import Container, Containers
from engine.cli.session import each, missing_is_fine, on_engine

Signal = Annotated[
    str,
    typer.Option("-s", "--signal", help="As KILL, SIGHUP or 15.", autocompletion=signal_names),
]
Timeout = Annotated[
    int | None,
    typer.Option(
        "-t", "--timeout", "--time", metavar="SECONDS",
        help="How long they may take to end before they are killed; -1: for ever.",
    ),
]  # fmt: skip


def stop(
    ctx: typer.Context, containers: Containers, signal: Signal = "", timeout: Timeout = None
) -> int:
    return stop_all(ctx, containers, signal, timeout)


def stop_all(ctx: typer.Context, names: list[str], signal: str, timeout: int | None) -> int:
    async def act(engine: Engine, name: str) -> None:
        query = {"t": timeout, "signal": signal or None}
        await engine.transport.json("POST", f"/containers/{name}/stop", query=query)

    return each(ctx, names, act)


def restart(
    ctx: typer.Context, containers: Containers, signal: Signal = "", timeout: Timeout = None
) -> int:
    async def act(engine: Engine, name: str) -> None:
        query = {"t": timeout, "signal": signal or None}
        await engine.transport.json("POST", f"/containers/{name}/restart", query=query)

    return each(ctx, containers, act)


def kill(ctx: typer.Context, containers: Containers, signal: Signal = "KILL") -> int:
    async def act(engine: Engine, name: str) -> None:
        await engine.containers.kill(name, signal=signal)

    return each(ctx, containers, act)


def rm(
    ctx: typer.Context,
    containers: Containers,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Kill it first; one that isn't there is fine.")
    ] = False,
    link: Annotated[bool, typer.Option("-l", "--link", help="The link of that name.")] = False,
    volumes: Annotated[
        bool, typer.Option("-v", "--volumes", help="Its anonymous volumes, too.")
    ] = False,
) -> int:
    async def act(engine: Engine, name: str) -> None:
        query = {"force": force, "v": volumes, "link": link}
        with missing_is_fine(force):
            await engine.transport.json("DELETE", f"/containers/{name}", query=query)

    return each(ctx, [name.strip("/") for name in containers], act)


def pause(ctx: typer.Context, containers: Containers) -> int:
    async def act(engine: Engine, name: str) -> None:
        await engine.containers.pause(name)

    return each(ctx, containers, act)


def unpause(ctx: typer.Context, containers: Containers) -> int:
    async def act(engine: Engine, name: str) -> None:
        await engine.containers.unpause(name)

    return each(ctx, containers, act)


def wait(ctx: typer.Context, containers: Containers) -> int:
    async def act(engine: Engine, name: str) -> str:
        return str(await engine.containers.wait(name))

    return each(ctx, containers, act)


def rename(
    ctx: typer.Context,
    container: Container,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME", hidden=True)],
) -> None:
    async def work(engine: Engine) -> None:
        await engine.containers.rename(container, new_name)

    on_engine(ctx, work)
