"""`pycompose kill`: send a signal to the containers."""

from collections.abc import Sequence
from typing import Annotated

import typer

from compose import life
from compose.apply.listener import Listener
from compose.cli.change import Services, change
from compose.cli.find import project_containers
from compose.client.engine import Engine
from compose.model.project import Project
from compose.plan.names import SERVICE


def register(app: typer.Typer) -> None:
    @app.command("kill")
    def kill(
        ctx: typer.Context,
        services: Services = None,
        signal: Annotated[
            str,
            typer.Option("-s", "--signal", metavar="SIGNAL", help="Which; SIGKILL if not given."),
        ] = "SIGKILL",
        remove_orphans: Annotated[
            bool, typer.Option("--remove-orphans", help="Remove those of services that are gone.")
        ] = False,
    ) -> int:
        async def work(
            engine: Engine,
            name: str,
            project: Project | None,
            meant: Sequence[str] | None,
            listener: Listener,
        ) -> None:
            await life.kill(engine, name, services=meant, signal=signal, listener=listener)
            if remove_orphans and project is not None:
                known = {*project.services, *project.disabled}
                rows = await project_containers(engine, name)
                gone = {row.labels.get(SERVICE, "") for row in rows} - known
                if gone:
                    await life.remove(
                        engine, name, project, services=gone, stop_first=True, listener=listener
                    )

        return change(ctx.obj, services, work)
