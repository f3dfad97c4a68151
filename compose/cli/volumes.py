"""`pycompose volumes`: the project's volumes, or those that some services use."""

import asyncio
from typing import Annotated

import typer

from compose.cli.change import Services
from compose.cli.context import Context
from compose.cli.find import check_services, find_project, project_containers
from compose.cli.render import Format, check_format, json_lines, table
from compose.client.tables import is_template, show
from compose.client.volumes import VolumeDetails
from compose.plan.names import PROJECT


def register(app: typer.Typer) -> None:
    @app.command("volumes")
    def volumes(
        ctx: typer.Context,
        services: Services = None,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names.")] = False,
        format: Format = "table",
    ) -> int:
        check_format(format, templates=True)
        found = asyncio.run(_volumes(ctx.obj, services or []))
        if quiet:
            text = "\n".join(volume.name for volume in found)
        elif is_template(format):
            text = show([_document(volume) for volume in found], format)
        elif format == "json":
            text = json_lines(_document(volume) for volume in found)
        else:
            rows = ((volume.driver, volume.name) for volume in found)
            text = table(("DRIVER", "VOLUME NAME"), rows)
        if text:
            print(text)
        return 0


async def _volumes(context: Context, services: list[str]) -> list[VolumeDetails]:
    name, project = find_project(context)
    check_services(project, services)
    engine = await context.engine()
    found = await engine.volumes.list(filters={"label": [f"{PROJECT}={name}"]})
    if services:
        rows = await project_containers(engine, name, services or None)
        used = {mount.name for row in rows for mount in row.mounts}
        found = tuple(volume for volume in found if volume.name in used)
    return sorted(found, key=lambda volume: volume.name)


def _document(volume: VolumeDetails) -> dict[str, object]:
    """The keys of `docker compose volumes --format json`."""
    unknown = dict.fromkeys(("Availability", "Group", "Links", "Size", "Status"), "N/A")
    return {
        **unknown,
        "Driver": volume.driver,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Scope": "local",
    }
