"""`pycompose stop`: stop containers, in reverse order of dependency."""

import typer

from compose import life
from compose.cli.change import Services, Timeout, change


def register(app: typer.Typer) -> None:
    @app.command("stop")
    def stop(ctx: typer.Context, services: Services = None, timeout: Timeout = None) -> int:
        return change(
            ctx.obj,
            services,
            lambda engine, name, project, meant, listener: life.stop(
                engine, name, project, services=meant, timeout=timeout, listener=listener
            ),
        )
