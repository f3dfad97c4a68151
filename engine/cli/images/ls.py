"""`pyengine images`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from compose.client import fields
from compose.client.containers import encode_filters
from compose.client.engine import Engine
from compose.client.human import human_size
from compose.client.tables import Row, print_rows
from engine.cli import words
from engine.cli.complete import image_names
from engine.cli.options import Filter, Format, NoTrunc, Quiet, pairs
from engine.cli.session import on_engine

TITLES = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
COLUMNS = ("Repository", "Tag", "ID", "CreatedSince", "Size")
NONE = "<none>"


def images(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(metavar="[REPOSITORY[:TAG]]", hidden=True, autocompletion=image_names),
    ] = "",
    all: Annotated[bool, typer.Option("-a", "--all", help="Also what others build on.")] = False,
    digests: Annotated[bool, typer.Option("--digests", help="Their digests.")] = False,
    filter: Filter = None,
    format: Format = "",
    no_trunc: NoTrunc = False,
    quiet: Quiet = False,
) -> None:
    chosen = pairs("--filter", filter)
    if name:
        chosen.setdefault("reference", []).append(name)
    show_digests = digests or ".Digest" in format

    async def ask(engine: Engine) -> object:
        query = {"all": all, "digests": show_digests, "filters": encode_filters(chosen)}
        return await engine.transport.json("GET", "/images/json", query=query)

    found = fields.items(on_engine(ctx, ask), "the list of images")
    now = time.time()
    rows = [
        row
        for item in found
        for row in image_rows(
            fields.mapping(item, "an image"), now, whole=no_trunc, digests=show_digests
        )
    ]
    columns = (*COLUMNS[:2], "Digest", *COLUMNS[2:]) if digests else COLUMNS
    print_rows(rows, format, titles=TITLES, columns=columns, quiet="ID" if quiet else "")


def image_rows(
    image: Mapping[str, object], now: float, *, whole: bool, digests: bool = False
) -> Iterator[Row]:
    """One for each of its names; one without a name where it has none."""
    tags = [tag for tag in fields.texts(image, "RepoTags") if tag != "<none>:<none>"]
    known = [digest for digest in fields.texts(image, "RepoDigests") if "<none>" not in digest]
    by_repository: dict[str, str] = {}
    for digest in known:
        repository, _, value = digest.partition("@")
        by_repository.setdefault(repository, value)
    created = fields.number(image, "Created", 0)
    size = human_size(fields.number(image, "Size", 0), digits=3)
    names = [_split(tag) for tag in tags]
    if not names:
        names = [(repository, NONE) for repository in by_repository] or [(NONE, NONE)]
    for repository, tag in names:
        yield {
            "Repository": repository,
            "Tag": tag,
            "Digest": by_repository.get(repository, NONE),
            "ID": _identity(fields.text(image, "Id"), whole=whole),
            "CreatedSince": words.ago(created, now),
            "CreatedAt": words.local_time(created),
            "Size": size,
            "VirtualSize": size,
            "Containers": _count(fields.number(image, "Containers", -1)),
            "SharedSize": _size(fields.number(image, "SharedSize", -1)),
            "UniqueSize": "N/A",
        }


def _identity(text: str, *, whole: bool) -> str:
    return words.short_id(text, whole=whole)


def _split(tag: str) -> tuple[str, str]:
    repository, _, name = tag.rpartition(":")
    return repository, name


def _count(number: int) -> str:
    return "N/A" if number < 0 else str(number)


def _size(number: int) -> str:
    return "N/A" if number < 0 else human_size(number, digits=3)
