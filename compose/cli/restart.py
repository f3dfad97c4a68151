"""`pycompose restart`: restart containers, and what has to follow."""

from typing import Annotated

import typer

from compose import life
from compose.cli.change import Services, Timeout, change


def register(app: typer.Typer) -> None:
    @app.command("restart")
    def restart(
        ctx: typer.Context,
        services: Services = None,
        timeout: Timeout = None,
        no_deps: Annotated[
            bool, typer.Option("--no-deps", help="Not those that depend on them.")
        ] = False,
    ) -> int:
        return change(
            ctx.obj,
            services,
            lambda engine, name, project, meant, listener: life.restart(
                engine, name, project, services=meant, timeout=timeout,
                no_deps=no_deps, listener=listener,
            ),
        )  # fmt: skip
