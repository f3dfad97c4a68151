"""`pyengine status`: whether a daemon runs, and with what."""

from __future__ import annotations

from typing import Annotated

import typer

NOT_ANSWERING = 1
NOT_RUNNING = 3  # as the init script actions of the LSB say


def status(
    exec_root: Annotated[str, typer.Option(help="The engine's --exec-root")] = "",
) -> None:
    """Say whether the engine runs. Exit code 0: it does; 1: it doesn't answer; 3: it doesn't."""
    from engine.cli.running import count_containers, find_running, memory, warm_processes

    engine = find_running(exec_root)
    if engine is None:
        typer.echo("not running")
        raise typer.Exit(NOT_RUNNING)
    containers = count_containers(engine)
    typer.echo(f"{'running' if containers is not None else 'not answering'} (pid {engine.pid})")
    typer.echo(f"version     {engine.version}")
    typer.echo(f"data root   {engine.data_root}")
    for host in engine.hosts:
        typer.echo(f"socket      {host}")
    for pid in warm_processes(engine):
        typer.echo(
            f"warm        pid {pid}, {memory(pid) / 1e6:.0f} MB, runs commands that start fast"
        )
    if containers is None:
        raise typer.Exit(NOT_ANSWERING)
    typer.echo(f"containers  {containers} running")
