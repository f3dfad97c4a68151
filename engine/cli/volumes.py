"""`pyengine volume …` but for inspect and prune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.tables import Row, print_rows
from engine.cli import words
from engine.cli.containers.readers import key_values
from engine.cli.options import Filter, Format, Volumes, filters
from engine.cli.session import each, missing_is_fine, on_engine

TITLES = {"Name": "VOLUME NAME"}
COLUMNS = ("Driver", "Name")


def ls(
    ctx: typer.Context,
    filter: Filter = None,
    format: Format = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names.")] = False,
) -> None:
    async def ask(engine: Engine) -> object:
        return await engine.transport.json("GET", "/volumes", query={"filters": filters(filter)})

    answer = fields.mapping(on_engine(ctx, ask), "the list of volumes")
    rows = [row(volume) for volume in fields.children(answer, "Volumes")]
    rows.sort(key=lambda row: str(row["Name"]))
    print_rows(rows, format, titles=TITLES, columns=COLUMNS, quiet="Name" if quiet else "")


def row(volume: Mapping[str, object]) -> Row:
    labels = fields.text_map(volume, "Labels")
    return {
        "Name": fields.text(volume, "Name"),
        "Driver": fields.text(volume, "Driver", ""),
        "Scope": fields.text(volume, "Scope", ""),
        "Mountpoint": fields.text(volume, "Mountpoint", ""),
        "Labels": words.pairs(labels),
        "Label": lambda name: labels.get(name, ""),
        # Only `system df` asks for these two; the others are of swarm volumes.
        "Links": "N/A",
        "Size": "N/A",
        "Availability": "N/A",
        "Group": "N/A",
        "Status": "N/A",
    }


def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[VOLUME]", hidden=True)] = "",
    driver: Annotated[str, typer.Option("-d", "--driver", help="What keeps it.")] = "local",
    opt: Annotated[
        list[str] | None, typer.Option("-o", "--opt", help="For the driver.", metavar="KEY=VALUE")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Its label.", metavar="KEY[=VALUE]")
    ] = None,
) -> None:
    body = {
        "Name": name,
        "Driver": driver,
        "DriverOpts": key_values("--opt", opt or ()),
        "Labels": key_values("--label", label or ()),
    }

    async def work(engine: Engine) -> str:
        return (await engine.volumes.create(body)).name

    print(on_engine(ctx, work))


def rm(
    ctx: typer.Context,
    volumes: Volumes,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="One that isn't there is fine.")
    ] = False,
) -> int:
    async def act(engine: Engine, name: str) -> None:
        with missing_is_fine(force):
            await engine.volumes.remove(name, force=force)

    return each(ctx, volumes, act)
