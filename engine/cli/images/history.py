"""`pyengine history`."""

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
from engine.cli.images.transfer import platform_json
from engine.cli.options import Format, Image, NoTrunc, Platform, Quiet
from engine.cli.session import on_engine

TITLES = {"ID": "IMAGE", "CreatedSince": "CREATED"}


def history(
    ctx: typer.Context,
    image: Image,
    format: Format = "",
    human: Annotated[
        bool, typer.Option("-H/ ", "--human/--no-human", help="Sizes and times as people say them.")
    ] = True,
    no_trunc: NoTrunc = False,
    platform: Platform = "",
    quiet: Quiet = False,
) -> None:
    async def ask(engine: Engine) -> object:
        query = {"platform": platform_json(platform)}
        return await engine.transport.json("GET", f"/images/{image}/history", query=query)

    steps = fields.items(on_engine(ctx, ask), "the history")
    now = time.time()
    rows = [row(fields.mapping(step, "a step"), now, human=human, whole=no_trunc) for step in steps]
    when = "CreatedSince" if human else "CreatedAt"
    columns = ("ID", when, "CreatedBy", "Size", "Comment")
    print_rows(rows, format, titles=TITLES, columns=columns, quiet="ID" if quiet else "")


def row(step: Mapping[str, object], now: float, *, human: bool, whole: bool) -> Row:
    created = fields.number(step, "Created", 0)
    size = fields.number(step, "Size", 0)
    by = fields.text(step, "CreatedBy", "").replace("\t", " ")
    return {
        "ID": words.short_id(fields.text(step, "Id", ""), whole=whole),
        "CreatedSince": words.ago(created, now) if created > 0 else "",
        "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(created)),
        "CreatedBy": by if whole else shorten(by, 45),
        "Size": human_size(size, digits=3) if human else str(size),
        "Comment": fields.text(step, "Comment", ""),
    }
