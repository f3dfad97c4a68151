"""`pycompose version`."""

from __future__ import annotations

import json
from importlib.metadata import version as installed
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    @app.command("version")
    def version(
        short: Annotated[bool, typer.Option("--short", help="Only the number.")] = False,
        format: Annotated[
            str, typer.Option("-f", "--format", help="pretty or json.", metavar="FORMAT")
        ] = "pretty",
    ) -> int:
        number = installed("pycompose")
        if short:
            print(number)
        elif format == "json":
            print(json.dumps({"version": number}))
        else:
            print(f"pycompose version {number}")
        return 0
