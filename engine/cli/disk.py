"""`pyengine system df`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.human import human_size
from compose.client.tables import Row, show
from compose.client.times import parse_time
from engine.cli import words
from engine.cli.containers import ps
from engine.cli.images import ls
from engine.cli.options import Format
from engine.cli.session import on_engine

Document = Mapping[str, object]
TITLES = {"TotalCount": "TOTAL"}
COLUMNS = ("Type", "TotalCount", "Active", "Size", "Reclaimable")
_ALIVE = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    heading: str
    rows: Sequence[Row]
    titles: Mapping[str, str]
    columns: Sequence[str]

    def table(self) -> str:
        return show(self.rows, "", titles=self.titles, columns=self.columns)


def df(
    ctx: typer.Context,
    format: Format = "",
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Each single one.")] = False,
) -> None:
    async def ask(engine: Engine) -> object:
        return await engine.transport.json("GET", "/system/df")

    found = fields.mapping(on_engine(ctx, ask), "the disk usage")
    if not verbose:
        print(show(summary(found), format, titles=TITLES, columns=COLUMNS))
        return
    parts = parts_of(found, time.time())
    if format in ("", "table"):
        print("\n\n".join(text for part in parts for text in (part.heading, part.table())))
    else:
        print(show([{part.name: part.rows for part in parts}], format))


def summary(found: Document) -> list[Row]:
    images = fields.children(found, "Images")
    containers = fields.children(found, "Containers")
    volumes = [fields.child(volume, "UsageData") for volume in fields.children(found, "Volumes")]
    caches = fields.children(found, "BuildCache")
    layers = fields.number(found, "LayersSize", 0)
    used = [image for image in images if fields.number(image, "Containers", 0) > 0]
    in_use = sum(_own(image) for image in used)
    alive = [row for row in containers if fields.text(row, "State", "") in _ALIVE]
    mounted = [volume for volume in volumes if fields.number(volume, "RefCount", 0) > 0]
    own_caches = [cache for cache in caches if not fields.flag(cache, "Shared")]
    busy = [cache for cache in caches if fields.flag(cache, "InUse")]
    return [
        _row("Images", images, used, layers, layers - in_use),
        _row("Containers", containers, alive, _sum(containers, "SizeRw"),
             _sum(containers, "SizeRw") - _sum(alive, "SizeRw")),
        _row("Local Volumes", volumes, mounted, _sum(volumes, "Size"),
             _sum(volumes, "Size") - _sum(mounted, "Size")),
        _row("Build Cache", caches, busy, _sum(own_caches, "Size"),
             _sum([cache for cache in own_caches if cache not in busy], "Size")),
    ]  # fmt: skip


def _row(
    kind: str, every: Sequence[Document], active: Sequence[Document], size: int, free: int
) -> Row:
    share = f" ({free * 100 // size}%)" if size > 0 and kind != "Build Cache" else ""
    return {
        "Type": kind,
        "TotalCount": str(len(every)),
        "Active": str(len(active)),
        "Size": human_size(size),
        "Reclaimable": f"{human_size(free)}{share}",
    }


def _own(image: Document) -> int:
    """What it doesn't share with others."""
    size, shared = fields.number(image, "Size", 0), fields.number(image, "SharedSize", 0)
    return size - max(0, shared)


def _sum(rows: Sequence[Document], name: str) -> int:
    return sum(max(0, fields.number(row, name, 0)) for row in rows)


def parts_of(found: Document, now: float) -> tuple[Part, ...]:
    """A table of each kind."""
    images = [
        {**row, "UniqueSize": human_size(_own(image), digits=4)}
        for image in fields.children(found, "Images")
        for row in ls.image_rows(image, now, whole=False)
    ]
    containers = [
        {
            **{
                name: cell
                for name, cell in ps.row(each, now, whole=False).items()
                if name != "Label"
            },
            # What its image has isn't the container's.
            "Size": human_size(fields.number(each, "SizeRw", 0)),
        }
        for each in fields.children(found, "Containers")
    ]
    caches = fields.children(found, "BuildCache")
    return (
        Part("Images", "Images space usage:", images, ls.TITLES,
             (*ls.COLUMNS, "SharedSize", "UniqueSize", "Containers")),
        Part("Containers", "Containers space usage:", containers, ps.TITLES,
             ("ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names")),
        Part("Volumes", "Local Volumes space usage:",
             [_volume(each) for each in fields.children(found, "Volumes")],
             {"Name": "VOLUME NAME"}, ("Name", "Links", "Size")),
        Part("BuildCache", f"Build cache usage: {human_size(_sum(caches, 'Size'))}",
             [_cache(each, now) for each in caches],
             {"ID": "CACHE ID", "Type": "CACHE TYPE"},
             ("ID", "Type", "Size", "Created", "LastUsed", "Usage", "Shared")),
    )  # fmt: skip


def _volume(volume: Document) -> Row:
    usage = fields.child(volume, "UsageData")
    return {
        "Name": fields.text(volume, "Name"),
        "Links": str(fields.number(usage, "RefCount", 0)),
        "Size": human_size(max(0, fields.number(usage, "Size", 0))),
    }


def _cache(cache: Document, now: float) -> Row:
    def when(name: str) -> str:
        moment = parse_time(fields.text(cache, name, ""))
        return words.ago(moment / 1e9, now) if moment else ""

    return {
        "ID": fields.text(cache, "ID")[:12],
        "Type": fields.text(cache, "Type", ""),
        "Size": human_size(fields.number(cache, "Size", 0)),
        "Created": when("CreatedAt"),
        "LastUsed": when("LastUsedAt"),
        "Usage": str(fields.number(cache, "UsageCount", 0)),
        "Shared": words.yes(fields.flag(cache, "Shared")),
    }
