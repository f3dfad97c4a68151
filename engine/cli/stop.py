"""`pyengine stop`: end the daemon in order. Containers live on."""

from __future__ import annotations

import os
import select
import signal
from typing import Annotated

import typer


def stop(
    exec_root: Annotated[str, typer.Option(help="The engine's --exec-root")] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for its end")] = 30.0,
) -> None:
    """End the engine that runs with this exec root; running containers go on without it."""
    from engine.cli.running import count_containers, find_running

    engine = find_running(exec_root)
    if engine is None:
        typer.echo("pyengine: not running", err=True)
        return
    containers = count_containers(engine)
    try:
        process = os.pidfd_open(engine.pid)
        signal.pidfd_send_signal(process, signal.SIGTERM)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([process], [], [], timeout)
    if not ended:
        typer.echo(f"pyengine: pid {engine.pid} did not end within {timeout:g} s", err=True)
        raise typer.Exit(1)
    if containers:
        typer.echo(
            f"stopped; {containers} running container{'s' if containers > 1 else ''} "
            f"{'go' if containers > 1 else 'goes'} on, and the next start finds them again",
            err=True,
        )
