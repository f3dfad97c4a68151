"""`pyengine top`."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client.containers import ProcessTable
from compose.client.engine import Engine
from compose.client.tables import aligned
from engine.cli.options import Container
from engine.cli.session import on_engine


def top(
    ctx: typer.Context,
    container: Container,
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[PS OPTIONS]", hidden=True)
    ] = None,
) -> None:
    async def ask(engine: Engine) -> ProcessTable:
        return await engine.containers.top(container, ps_args=" ".join(options or ()))

    table = on_engine(ctx, ask)
    print(aligned(["\t".join(row) for row in (table.titles, *table.processes)]))
