"""`pyengine stop`: end the daemon in order, containers live on; with names: stop containers."""

from __future__ import annotations

import contextlib
import os
import select
import signal as signals
from typing import Annotated

import typer

from engine.cli.complete import container_names, signal_names

PATIENCE = 30.0  # seconds


def stop(
    ctx: typer.Context,
    containers: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONTAINER...", hidden=True, autocompletion=container_names),
    ] = None,
    signal: Annotated[
        str,
        typer.Option(
            "-s", "--signal", help="What containers are sent, as SIGTERM or 15.",
            autocompletion=signal_names,
        ),
    ] = "",
    timeout: Annotated[
        int | None,
        typer.Option(
            "-t", "--timeout", "--time", metavar="SECONDS",
            help="How long containers may take before they are killed, or the engine to end"
            f" ({PATIENCE:g}).",
        ),
    ] = None,
    exec_root: Annotated[str, typer.Option(help="The --exec-root of the engine to end.")] = "",
) -> int:  # fmt: skip
    """Stop containers. Without a name it ends the engine; running containers go on without it."""
    if not containers:
        if signal:
            raise typer.BadParameter("--signal is for containers: name some")
        return end_engine(exec_root, PATIENCE if timeout is None else timeout)
    if exec_root:
        raise typer.BadParameter("--exec-root is for the engine: name no containers")
    from engine.cli.containers.life import stop_all

    return stop_all(ctx, containers, signal, timeout)


def end_engine(exec_root: str, timeout: float) -> int:
    from engine.cli.running import count_containers, find_running, warm_processes

    engine = find_running(exec_root)
    if engine is None:
        typer.echo("pyengine: not running", err=True)
        return 0
    containers = count_containers(engine)
    try:
        process = os.pidfd_open(engine.pid)
        signals.pidfd_send_signal(process, signals.SIGTERM)
    except ProcessLookupError:
        return 0
    ended, _, _ = select.select([process], [], [], timeout)
    if not ended:
        typer.echo(f"pyengine: pid {engine.pid} did not end within {timeout:g} s", err=True)
        return 1
    for pid in warm_processes(engine):
        end_warm_process(pid)
    if containers:
        typer.echo(
            f"stopped; {containers} running container{'s' if containers > 1 else ''} "
            f"{'go' if containers > 1 else 'goes'} on, and the next start finds them again",
            err=True,
        )
    return 0


def end_warm_process(pid: int) -> None:
    """It ends when the engine does; that it has ended is to be true when we say so."""
    with contextlib.suppress(ProcessLookupError):
        process = os.pidfd_open(pid)
        signals.pidfd_send_signal(process, signals.SIGTERM)  # it may be about to start
        select.select([process], [], [], PATIENCE)
