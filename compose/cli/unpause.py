"""`pycompose unpause`: let paused containers go on."""

import typer

from compose import life
from compose.cli.change import Services, change


def register(app: typer.Typer) -> None:
    @app.command("unpause")
    def unpause(ctx: typer.Context, services: Services = None) -> int:
        return change(
            ctx.obj,
            services,
            lambda engine, name, _, meant, listener: life.unpause(
                engine, name, services=meant, listener=listener
            ),
        )
