"""`pycompose ps`: the project's containers."""

import asyncio
import json
import time
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, project_containers
from compose.cli.render import Format, check_format, json_lines, stamp, table
from compose.client.containers import ContainerSummary
from compose.client.human import ago, shorten
from compose.client.ports import ports_text
from compose.client.tables import is_template, show
from compose.errors import UsageError
from compose.plan.names import PROJECT, SERVICE

HEADERS = ("NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS")


def register(app: typer.Typer) -> None:
    @app.command("ps")
    def ps(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        all: Annotated[bool, typer.Option("-a", "--all", help="Stopped ones too.")] = False,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only ids.")] = False,
        names: Annotated[bool, typer.Option("--services", help="Only services' names.")] = False,
        status: Annotated[
            list[str] | None,
            typer.Option("--status", help="Only those in this state.", metavar="STATE"),
        ] = None,
        filter: Annotated[
            list[str] | None, typer.Option("--filter", help="status=STATE.", metavar="FILTER")
        ] = None,
        format: Format = "table",
        no_trunc: Annotated[bool, typer.Option("--no-trunc", help="Whole columns.")] = False,
        orphans: Annotated[
            bool, typer.Option("--orphans/--no-orphans", help="Those of services no longer there.")
        ] = True,
    ) -> int:
        check_format(format, templates=True)
        context: Context = ctx.obj
        rows = asyncio.run(
            _list(
                context, services or [], everything=all or bool(status or filter), orphans=orphans
            )
        )
        wanted = [*(status or ()), *(_status(text) for text in filter or ())]
        rows = [row for row in rows if not wanted or row.state in wanted]
        if quiet:
            text = "\n".join(row.id for row in rows)
        elif names:
            text = "\n".join(dict.fromkeys(row.labels.get(SERVICE, "") for row in rows))
        elif is_template(format):
            text = show([_document(row) for row in rows], format)
        elif format == "json":
            text = json_lines(_document(row) for row in rows)
        else:
            width = 10_000 if no_trunc else 20
            cells = [_cells(row, width) for row in rows]
            text = table(
                HEADERS,
                cells,
                fit=not no_trunc,
                firm=("NAME", "SERVICE", "STATUS", "PORTS"),
                spare=("COMMAND", "CREATED", "IMAGE"),
            )
        if text:
            print(text)
        return 0


async def _list(
    context: Context, services: list[str], *, everything: bool, orphans: bool
) -> list[ContainerSummary]:
    name, project = find_project(context)
    check_services(project, services)
    engine = await context.engine()
    rows = await project_containers(
        engine, name, services or None, all=everything, oneoff=everything
    )
    rows.sort(key=lambda row: row.name)
    if project is not None and not orphans:
        rows = [row for row in rows if row.labels.get(SERVICE) in project.services]
    return rows


def _status(text: str) -> str:
    """Of --filter, which knows one property."""
    key, equals, value = text.partition("=")
    if key != "status" or not equals:
        raise UsageError(f"cannot read --filter {text!r}\n  hint: write --filter status=running")
    return value


def _cells(row: ContainerSummary, width: int) -> tuple[str, ...]:
    return (
        row.name,
        row.image,
        _command(row, width),
        row.labels.get(SERVICE, ""),
        ago(row.created, time.time()),
        row.status,
        _ports(row),
    )


def _ports(row: ContainerSummary) -> str:
    return ports_text((port.private, port.ip, port.protocol, port.public) for port in row.ports)


def _command(row: ContainerSummary, width: int) -> str:
    return json.dumps(shorten(row.command, width), ensure_ascii=False)


def _document(row: ContainerSummary) -> dict[str, object]:
    """The keys of `docker compose ps --format json`."""
    return {
        "Command": _command(row, 20),
        "CreatedAt": stamp(row.created)[:19] + " +0000 UTC",
        "ExitCode": row.exit_code or 0,
        "Health": row.health,
        "ID": row.id[:12],
        "Image": row.image,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(row.labels.items())),
        "LocalVolumes": str(sum(mount.kind == "volume" for mount in row.mounts)),
        "Mounts": ",".join(mount.name or mount.source for mount in row.mounts),
        "Name": row.name,
        "Names": row.name,
        "Networks": ",".join(sorted(row.networks)),
        "Ports": _ports(row),
        "Project": row.labels.get(PROJECT, ""),
        "Publishers": [
            {
                "URL": port.ip,
                "TargetPort": port.private,
                "PublishedPort": port.public,
                "Protocol": port.protocol,
            }
            for port in row.ports
        ],
        "RunningFor": ago(row.created, time.time()),
        "Service": row.labels.get(SERVICE, ""),
        "Size": "0B",
        "State": row.state,
        "Status": row.status,
    }
