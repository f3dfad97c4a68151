"""`pyengine search`."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client import fields
from compose.client.credentials import CredentialStore
from compose.client.engine import Engine
from compose.client.human import shorten
from compose.client.tables import Row, print_rows
from engine.cli.options import Filter, Format, NoTrunc, filters
from engine.cli.session import on_engine, session

TITLES = {"StarCount": "STARS", "IsOfficial": "OFFICIAL", "IsAutomated": "AUTOMATED"}
COLUMNS = ("Name", "Description", "StarCount", "IsOfficial")


def search(
    ctx: typer.Context,
    term: Annotated[str, typer.Argument(metavar="TERM", hidden=True)],
    filter: Filter = None,
    format: Format = "",
    limit: Annotated[int, typer.Option("--limit", help="At most so many.", metavar="N")] = 0,
    no_trunc: NoTrunc = False,
) -> None:
    async def ask(engine: Engine) -> object:
        query = {"term": term, "limit": limit or None, "filters": filters(filter)}
        credentials = await CredentialStore(session(ctx).environment).header(term)
        headers = {"X-Registry-Auth": credentials} if credentials else None
        return await engine.transport.json("GET", "/images/search", query=query, headers=headers)

    found = fields.items(on_engine(ctx, ask), "what was found")
    rows: list[Row] = []
    for item in found:
        image = fields.mapping(item, "an image")
        description = " ".join(fields.text(image, "description", "").split())
        rows.append(
            {
                "Name": fields.text(image, "name"),
                "Description": description if no_trunc else shorten(description, 45),
                "StarCount": str(fields.number(image, "star_count", 0)),
                "IsOfficial": "[OK]" if fields.flag(image, "is_official") else "",
                "IsAutomated": "[OK]" if fields.flag(image, "is_automated") else "",
            }
        )
    print_rows(rows, format, titles=TITLES, columns=COLUMNS)
