"""`pycompose alpha viz`: the services as a graph in DOT, under Docker Compose's name for it."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.cli.context import Context
from compose.errors import UsageError


def register(app: typer.Typer) -> None:
    @app.command("alpha")
    def alpha(
        ctx: typer.Context,
        what: Annotated[str, typer.Argument(metavar="viz")],
        image: Annotated[bool, typer.Option("--image", help="Show the images.")] = False,
        networks: Annotated[bool, typer.Option("--networks", help="Show the networks.")] = False,
        ports: Annotated[bool, typer.Option("--ports", help="Show the ports.")] = False,
        spaces: Annotated[
            bool, typer.Option("--spaces", help="Indent with blanks, not tabs.")
        ] = False,
        indentation_size: Annotated[
            int, typer.Option("--indentation-size", help="Of one level.", metavar="NUMBER")
        ] = 1,
    ) -> int:
        if what != "viz":
            raise UsageError(
                f"there is no alpha {what}\n  hint: there is: alpha viz; graph draws more"
            )
        context: Context = ctx.obj
        from compose.diagram.texts import viz

        project = context.load(require_files=False)
        indent = (" " if spaces else "\t") * indentation_size
        print(viz(project, indent, image=image, networks=networks, ports=ports), end="")
        return 0
