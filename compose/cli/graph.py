"""`pycompose graph`: the project as a drawing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.errors import UsageError

FORMATS = ("text", "mermaid", "dot", "svg", "png")


def register(app: typer.Typer) -> None:
    @app.command("graph")
    def graph(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        format: Annotated[
            str,
            typer.Option("--format", help="text, mermaid, dot, svg or png.", metavar="FORMAT"),
        ] = "",
        output: Annotated[
            str, typer.Option("-o", "--output", help="Write to this file.", metavar="FILE")
        ] = "",
    ) -> int:
        context: Context = ctx.obj
        format = format or _by_name(output)
        if format not in FORMATS:
            raise typer.BadParameter(f"--format: {format!r} is none of {', '.join(FORMATS)}")
        from compose.diagram.model import make_diagram
        from compose.diagram.texts import dot, mermaid, plain_text

        diagram = make_diagram(context.load(tuple(services or ()), require_files=False))
        if format in ("svg", "png"):
            from compose.diagram.picture import picture

            if format == "png" and not output and sys.stdout.isatty():
                raise UsageError("a PNG is nothing for a terminal\n  hint: write it with -o FILE")
            drawn = picture(diagram, format)
        else:
            drawn = {"text": plain_text, "mermaid": mermaid, "dot": dot}[format](diagram).encode()
        if output:
            Path(context.directory, output).write_bytes(drawn)
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(drawn)
        return 0


def _by_name(output: str) -> str:
    """What the file's name says: stack.svg, stack.mmd."""
    suffix = Path(output).suffix.removeprefix(".")
    return {"mmd": "mermaid", "gv": "dot"}.get(suffix, suffix if suffix in FORMATS else "text")
