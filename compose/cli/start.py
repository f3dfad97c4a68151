"""`pycompose start`: start containers that are there."""

from typing import Annotated

import typer

from compose import life
from compose.cli.change import Services, change


def register(app: typer.Typer) -> None:
    @app.command("start")
    def start(
        ctx: typer.Context,
        services: Services = None,
        wait: Annotated[bool, typer.Option("--wait", help="Until all run or are healthy.")] = False,
        wait_timeout: Annotated[
            float | None,
            typer.Option("--wait-timeout", metavar="SECONDS", help="Seconds to wait at the most."),
        ] = None,
    ) -> int:
        return change(
            ctx.obj,
            services,
            lambda engine, name, project, meant, listener: life.start(
                engine, name, project, services=meant, wait=wait,
                wait_timeout=wait_timeout, listener=listener,
            ),
        )  # fmt: skip
