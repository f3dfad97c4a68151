"""`pycompose version`."""

import json
from typing import Annotated

import typer

from compose import VERSION


def register(app: typer.Typer) -> None:
    @app.command("version")
    def version(
        short: Annotated[bool, typer.Option("--short", help="Only the number.")] = False,
        format: Annotated[
            str, typer.Option("-f", "--format", help="pretty or json.", metavar="FORMAT")
        ] = "pretty",
    ) -> int:
        if short:
            print(VERSION)
        elif format == "json":
            print(json.dumps({"version": VERSION}))
        else:
            print(f"pycompose version {VERSION}")
        return 0
