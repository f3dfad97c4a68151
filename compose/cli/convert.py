"""`pycompose convert`: an old file (versions 1, 2.x) in today's words; a new one as `config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.render import check_format


def register(app: typer.Typer) -> None:
    @app.command("convert")
    def convert(
        ctx: typer.Context,
        format: Annotated[
            str, typer.Option("--format", help="yaml or json.", metavar="FORMAT")
        ] = "yaml",
        output: Annotated[
            str, typer.Option("-o", "--output", help="Write to this file.", metavar="FILE")
        ] = "",
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only check.")] = False,
    ) -> int:
        check_format(format, ("yaml", "json"))
        context: Context = ctx.obj
        text = _converted(context, format)
        if quiet:
            return 0
        if output:
            Path(context.directory, output).write_text(text)
        else:
            print(text, end="")
        return 0


def _converted(context: Context, format: str) -> str:
    from compose.cli.config_text import document_text, json_document, yaml_document
    from compose.load.pipeline import first_file, load_with_tree
    from compose.upgrade import is_old, upgrade

    request = context.request(require_files=False)
    root = first_file(request)
    if not is_old(root):
        project, tree = load_with_tree(request)
        document = json_document(project) if format == "json" else yaml_document(project, tree)
        return document_text(document, format)
    upgraded = upgrade(root)
    for note in upgraded.notes:
        context.say(str(note))
    return document_text(upgraded.document, format, escape=False)
