"""`pycompose kill`: send a signal to the containers."""

from typing import Annotated

import typer

from compose import converge
from compose.cli.change import Services, change


def register(app: typer.Typer) -> None:
    @app.command("kill")
    def kill(
        ctx: typer.Context,
        services: Services = None,
        signal: Annotated[
            str,
            typer.Option("-s", "--signal", metavar="SIGNAL", help="Which; SIGKILL if not given."),
        ] = "SIGKILL",
    ) -> int:
        return change(
            ctx.obj,
            services,
            lambda engine, name, _, listener: converge.kill(
                engine, name, services=services or (), signal=signal, listener=listener
            ),
            lenient=True,
        )
