"""`pyengine daemon`: check the machine, then serve in the foreground."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.settings import Settings

LEVELS = ("debug", "info", "warning", "error")


def daemon(
    host: Annotated[
        list[str] | None,
        typer.Option("--host", "-H", help="unix:///path or tcp://127.0.0.1:PORT; may be repeated"),
    ] = None,
    data_root: Annotated[str, typer.Option(help="Where images, volumes and records live")] = "",
    exec_root: Annotated[str, typer.Option(help="Where sockets of running containers live")] = "",
    ready_fd: Annotated[
        int | None, typer.Option(help="Gets one byte once the engine serves", metavar="N")
    ] = None,
    log_level: Annotated[str, typer.Option(help=f"One of {', '.join(LEVELS)}")] = "info",
    insecure_tcp: Annotated[
        bool, typer.Option(help="Listen on addresses that other machines reach, without TLS")
    ] = False,
    registry_mirror: Annotated[
        list[str] | None,
        typer.Option(
            help="Asked before Docker Hub: https://HOST[:PORT]; may be repeated",
            envvar="PYENGINE_REGISTRY_MIRROR",
        ),
    ] = None,
    insecure_registry: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST[:PORT] or network that may speak plain HTTP; may be repeated",
            envvar="PYENGINE_INSECURE_REGISTRY",
        ),
    ] = None,
) -> None:
    """Serve the Docker Engine API in the foreground, until SIGTERM or SIGINT."""
    from engine.cli.checks import check_machine, check_user
    from engine.errors import EngineError
    from engine.settings import make_settings

    if ready_fd is not None:
        os.set_inheritable(ready_fd, False)
    if log_level not in LEVELS:
        fail(f"cannot log at level {log_level!r}: it has to be one of {', '.join(LEVELS)}")
    try:
        settings = make_settings(
            hosts=tuple(host or ()),
            data_root=data_root,
            exec_root=exec_root,
            insecure_tcp=insecure_tcp,
            mirrors=tuple(registry_mirror or ()),
            insecure_registries=tuple(insecure_registry or ()),
            uid=os.geteuid(),
            environment=os.environ,
        )
        check_user(os.geteuid())
        check_machine()
        _serve(settings, ready_fd, log_level)
    except EngineError as error:
        fail(str(error))
    except OSError as error:  # the kernel or the disk refused while the parts were built
        fail(f"cannot start: {error}")


def _serve(settings: Settings, ready_fd: int | None, log_level: str) -> None:
    import asyncio
    import logging

    from engine.daemon import run

    logging.basicConfig(
        level=log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # What no line of ours shows need not be found out for each.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    # A thread that comes back from the kernel waits so long for the event loop to let go: with
    # Python's 5 ms, a dozen calls of a thread make a start under load ten times as long.
    sys.setswitchinterval(0.0005)
    asyncio.run(run(settings, ready=ready_fd))


def fail(message: str) -> None:
    typer.echo(f"pyengine: {message}", err=True)
    raise typer.Exit(1)
