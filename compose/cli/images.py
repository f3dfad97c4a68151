"""`pycompose images`: the images that the project's containers were made from."""

import asyncio
import time
from typing import Annotated

import typer

from compose.cli.change import Services
from compose.cli.context import Context
from compose.cli.find import check_services, find_project, project_containers
from compose.cli.render import Format, check_format, json_array, table
from compose.client.containers import ContainerSummary
from compose.client.human import ago, human_size
from compose.client.images import ImageDetails
from compose.client.times import parse_time
from compose.dataclass import dataclass

HEADERS = ("CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED")


@dataclass(frozen=True, slots=True)
class Used:
    container: ContainerSummary
    image: ImageDetails

    @property
    def name(self) -> tuple[str, str]:
        """Repository and tag; an image that has lost its name has neither, a directory no tag."""
        if self.container.image.startswith("rootfs:"):
            return self.container.image, ""
        repository, _, tag = (*self.image.tags, "")[0].rpartition(":")
        return repository, tag

    @property
    def platform(self) -> str:
        return f"{self.image.system}/{self.image.architecture}"


def register(app: typer.Typer) -> None:
    @app.command("images")
    def images(
        ctx: typer.Context,
        services: Services = None,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only ids.")] = False,
        format: Format = "table",
    ) -> int:
        check_format(format)
        found = asyncio.run(_images(ctx.obj, services or []))
        if quiet:
            ids = dict.fromkeys(used.image.id.removeprefix("sha256:") for used in found)
            text = "\n".join(ids)
        elif format == "json":
            text = json_array(_document(used) for used in found)
        else:
            text = table(HEADERS, map(_cells, found))
        if text:
            print(text)
        return 0


async def _images(context: Context, services: list[str]) -> list[Used]:
    name, project = find_project(context)
    check_services(project, services)
    engine = await context.engine()
    rows = await project_containers(engine, name, services or None)
    ids = dict.fromkeys(row.image_id for row in rows)
    details = await asyncio.gather(*(engine.images.inspect(identity) for identity in ids))
    images = dict(zip(ids, details, strict=True))
    return [Used(row, images[row.image_id]) for row in rows]


def _cells(used: Used) -> tuple[str, ...]:
    created = parse_time(used.image.created) / 1e9
    return (
        used.container.name,
        *(part or "<none>" for part in used.name),
        used.platform,
        used.image.id.removeprefix("sha256:")[:12],
        human_size(used.image.size, digits=3),
        ago(created, time.time()) if created else "N/A",
    )


def _document(used: Used) -> dict[str, object]:
    """The keys of `docker compose images --format json`."""
    repository, tag = used.name
    return {
        "ID": used.image.id,
        "ContainerName": used.container.name,
        "Repository": repository,
        "Tag": tag,
        "Platform": used.platform,
        "Size": used.image.size,
        "Created": used.image.created,
        "LastTagTime": used.image.tagged,
    }
