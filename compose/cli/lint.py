"""`pycompose lint`: what can be read, but will hurt."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.render import check_format
from compose.client.human import counted


def register(app: typer.Typer) -> None:
    @app.command("lint")
    def lint(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        format: Annotated[
            str, typer.Option("--format", help="text or json.", metavar="FORMAT")
        ] = "text",
        all: Annotated[bool, typer.Option("-a", "--all", help="Notes too.")] = False,
        rules: Annotated[bool, typer.Option("--rules", help="List what is looked for.")] = False,
    ) -> int:
        """Exit code 1: there are warnings."""
        from compose.lint import RULES, WARNING
        from compose.lint import lint as find

        check_format(format, ("text", "json"))
        if rules:
            print("\n".join(f"{rule.level:8}  {rule.code}" for rule in RULES))
            return 0
        context: Context = ctx.obj
        project = context.load(tuple(services or ()), with_dependencies=False, require_files=False)
        found = [each for each in find(project) if all or each.level == WARNING]
        if format == "json":
            rows = [
                {
                    "code": each.code,
                    "level": each.level,
                    "message": each.problem.what,
                    "path": each.problem.path,
                    "hint": each.problem.hint,
                    "file": each.problem.at.file if each.problem.at else None,
                    "line": each.problem.at.line if each.problem.at else None,
                    "column": each.problem.at.column if each.problem.at else None,
                }
                for each in found
            ]
            print(json.dumps(rows, indent=2, ensure_ascii=False))
        elif found:
            print("\n".join(map(str, found)))
        warnings = sum(each.level == WARNING for each in found)
        if format == "text":
            notes = f", {len(found) - warnings} notes" if all else ""
            context.say(f"{counted(warnings, 'warning')}{notes}")
        return 1 if warnings else 0
