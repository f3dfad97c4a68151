"""`pycompose ls`: the projects on the engine."""

import asyncio
from collections import Counter
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.render import Format, check_format, json_array, table
from compose.client.containers import ContainerSummary
from compose.errors import UsageError
from compose.plan.names import CONFIG_FILES, PROJECT


def register(app: typer.Typer) -> None:
    @app.command("ls")
    def ls(
        ctx: typer.Context,
        all: Annotated[bool, typer.Option("-a", "--all", help="Stopped ones too.")] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names.")] = False,
        filter: Annotated[
            list[str] | None, typer.Option("--filter", help="name=PART.", metavar="FILTER")
        ] = None,
        format: Format = "table",
    ) -> int:
        check_format(format)
        parts = [_part(text) for text in filter or ()]
        projects = [
            project
            for project in asyncio.run(_projects(ctx.obj, all))
            if not parts or any(part in project[0] for part in parts)
        ]
        if quiet:
            print("\n".join(name for name, _, _ in projects))
        elif format == "json":
            print(json_array({"Name": n, "Status": s, "ConfigFiles": f} for n, s, f in projects))
        else:
            print(table(("NAME", "STATUS", "CONFIG FILES"), projects))
        return 0


def _part(text: str) -> str:
    key, equals, value = text.partition("=")
    if key != "name" or not equals:
        raise UsageError(f"cannot read --filter {text!r}\n  hint: write --filter name=shop")
    return value


async def _projects(context: Context, everything: bool) -> list[tuple[str, str, str]]:
    engine = await context.engine()
    found = await engine.containers.list(all=everything, filters={"label": [PROJECT]})
    projects: dict[str, list[ContainerSummary]] = {}
    for container in found:
        projects.setdefault(container.labels[PROJECT], []).append(container)
    return [(name, _status(rows), _files(rows)) for name, rows in sorted(projects.items())]


def _status(rows: list[ContainerSummary]) -> str:
    counts = Counter(row.state for row in rows)
    return ", ".join(f"{state}({count})" for state, count in sorted(counts.items()))


def _files(rows: list[ContainerSummary]) -> str:
    return ",".join(dict.fromkeys(row.labels.get(CONFIG_FILES, "") for row in rows))
