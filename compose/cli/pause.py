"""`pycompose pause`: stop the clock of running containers."""

import typer

from compose import life
from compose.cli.change import Services, change


def register(app: typer.Typer) -> None:
    @app.command("pause")
    def pause(ctx: typer.Context, services: Services = None) -> int:
        return change(
            ctx.obj,
            services,
            lambda engine, name, _, meant, listener: life.pause(
                engine, name, services=meant, listener=listener
            ),
        )
