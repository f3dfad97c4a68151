"""`pyengine ps`: the containers as a table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.human import human_size, shorten
from compose.client.tables import Row, print_rows
from engine.cli import words
from engine.cli.options import Filter, Format, NoTrunc, Quiet, filters
from engine.cli.session import on_engine

TITLES = {"ID": "CONTAINER ID", "RunningFor": "CREATED"}
COLUMNS = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def ps(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("-a", "--all", help="Also those that don't run.")] = False,
    filter: Filter = None,
    format: Format = "",
    last: Annotated[
        int, typer.Option("-n", "--last", help="The N created last, in any state.", metavar="N")
    ] = -1,
    latest: Annotated[bool, typer.Option("-l", "--latest", help="The one created last.")] = False,
    no_trunc: NoTrunc = False,
    quiet: Quiet = False,
    size: Annotated[bool, typer.Option("-s", "--size", help="Also how much they wrote.")] = False,
) -> None:
    limit = 1 if latest and last == -1 else last

    async def ask(engine: Engine) -> object:
        query = {
            "all": all,
            "limit": limit if limit > 0 else None,
            "filters": filters(filter),
            "size": size or ".Size" in format,
        }
        return await engine.transport.json("GET", "/containers/json", query=query)

    found = fields.items(on_engine(ctx, ask), "the list of containers")
    now = time.time()
    rows = [row(fields.mapping(item, "a container"), now, whole=no_trunc) for item in found]
    columns = (*COLUMNS, "Size") if size else COLUMNS
    print_rows(rows, format, titles=TITLES, columns=columns, quiet="ID" if quiet else "")


def row(container: Mapping[str, object], now: float, *, whole: bool) -> Row:
    labels = fields.text_map(container, "Labels")
    created = fields.number(container, "Created", 0)
    mounts = fields.children(container, "Mounts")
    places = [fields.text(m, "Name", "") or fields.text(m, "Source", "") for m in mounts]
    networks = fields.child(fields.child(container, "NetworkSettings"), "Networks")
    command = fields.text(container, "Command", "")
    image = fields.text(container, "Image", "")
    names = [name.removeprefix("/") for name in fields.texts(container, "Names")]
    return {
        "ID": words.short_id(fields.text(container, "Id"), whole=whole),
        "Image": image if whole or not image.startswith("sha256:") else image[7:19],
        "Command": f'"{command if whole else shorten(command, 20)}"',
        "CreatedAt": words.local_time(created),
        "RunningFor": words.ago(created, now),
        "Platform": None,
        "Ports": words.ports(fields.children(container, "Ports")),
        "State": fields.text(container, "State"),
        "Status": fields.text(container, "Status", ""),
        "Size": _size(container),
        "Names": ",".join(names if whole else [n for n in names if "/" not in n]),
        "Labels": words.pairs(labels),
        "Label": lambda name: labels.get(name, ""),
        "LocalVolumes": str(sum(1 for m in mounts if fields.text(m, "Driver", "") == "local")),
        "Mounts": ",".join(place if whole else shorten(place, 15) for place in places),
        "Networks": ",".join(sorted(networks)),
    }


def _size(container: Mapping[str, object]) -> str:
    written = fields.number(container, "SizeRw", 0)
    whole = fields.number(container, "SizeRootFs", 0)
    text = human_size(written, digits=3)
    return f"{text} (virtual {human_size(whole, digits=3)})" if whole else text
