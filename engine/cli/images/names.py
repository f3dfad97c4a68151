"""`pyengine tag` and `rmi`."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.images import split_reference
from compose.client.transport import Query
from engine.cli.images.transfer import platform_json
from engine.cli.options import Image, Images
from engine.cli.session import each, missing_is_fine, on_engine


def tag(
    ctx: typer.Context,
    source: Image,
    target: Annotated[str, typer.Argument(metavar="NAME[:TAG]", hidden=True)],
) -> None:
    name, version = split_reference(target)

    async def work(engine: Engine) -> None:
        query = {"repo": name, "tag": version}
        await engine.transport.json("POST", f"/images/{source}/tag", query=query)

    on_engine(ctx, work)


def rmi(
    ctx: typer.Context,
    images: Images,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="Although used; one that isn't there is fine.")
    ] = False,
    no_prune: Annotated[
        bool, typer.Option("--no-prune", help="Keep what it builds on, without a name.")
    ] = False,
    platform: Annotated[
        list[str] | None,
        typer.Option("--platform", help="Only this of several.", metavar="OS/ARCH[/VARIANT]"),
    ] = None,
) -> int:
    async def act(engine: Engine, name: str) -> str:
        query: Query = {
            "force": force,
            "noprune": no_prune,
            "platforms": [text for word in platform or () if (text := platform_json(word))],
        }
        with missing_is_fine(force):
            answer = await engine.transport.json("DELETE", f"/images/{name}", query=query)
            return removed_lines(answer)
        return ""

    return each(ctx, images, act)


def removed_lines(answer: object) -> str:
    """`Untagged: …` and `Deleted: …`"""
    rows = [fields.mapping(row, "what was removed") for row in fields.items(answer, "the removal")]
    return "\n".join(
        f"{word}: {fields.text(row, word)}"
        for row in rows
        for word in ("Untagged", "Deleted")
        if word in row
    )
