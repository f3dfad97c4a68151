"""`pyengine inspect`: all that the engine tells of objects, as it tells it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.errors import ApiError, NotFound
from compose.client.template import parse_template, to_json
from compose.client.transport import Query
from compose.errors import UsageError
from engine.cli.complete import any_names, one_of
from engine.cli.images.transfer import platform_json
from engine.cli.options import Containers, Images, Networks, Platform, Volumes
from engine.cli.session import on_engine

# In the order in which a bare name is looked for.
PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
Format = Annotated[
    str,
    typer.Option(
        "-f", "--format", help="json, or a template as '{{.State.Pid}}'.", metavar="FORMAT",
        autocompletion=one_of("json"),
    ),
]  # fmt: skip
Size = Annotated[bool, typer.Option("-s", "--size", help="Also how much a container wrote.")]


def inspect(
    ctx: typer.Context,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", hidden=True, autocompletion=any_names)
    ],
    format: Format = "",
    size: Size = False,
    type: Annotated[
        str,
        typer.Option("--type", help=f"Only a {', '.join(PATHS)}.", autocompletion=one_of(*PATHS)),
    ] = "",
) -> int:
    if type and type not in PATHS:
        raise UsageError(f"--type {type!r} is none of {', '.join(PATHS)}")
    return _inspect(ctx, names, format, (type,) if type else tuple(PATHS), {"size": size})


def inspect_container(
    ctx: typer.Context, containers: Containers, format: Format = "", size: Size = False
) -> int:
    return _inspect(ctx, containers, format, ("container",), {"size": size})


def inspect_image(
    ctx: typer.Context, images: Images, format: Format = "", platform: Platform = ""
) -> int:
    return _inspect(ctx, images, format, ("image",), {"platform": platform_json(platform)})


def inspect_network(
    ctx: typer.Context,
    networks: Networks,
    format: Format = "",
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Its tasks, too.")] = False,
) -> int:
    return _inspect(ctx, networks, format, ("network",), {"verbose": verbose})


def inspect_volume(ctx: typer.Context, volumes: Volumes, format: Format = "") -> int:
    return _inspect(ctx, volumes, format, ("volume",))


def _inspect(
    ctx: typer.Context,
    names: Sequence[str],
    format: str,
    kinds: Sequence[str],
    query: Query | None = None,
) -> int:
    """Prints those that are there; 1 where one is missing."""
    template = parse_template(format) if format not in ("", "json") else None

    async def work(engine: Engine) -> tuple[list[Mapping[str, object]], list[str]]:
        found, wrong = [], []
        for name in names:
            try:
                found.append(await _find(engine, name, kinds, query or {}))
            except ApiError as error:
                wrong.append(str(error))
        return found, wrong

    found, wrong = on_engine(ctx, work)
    if template:
        for document in found:
            print(template.render(document))
    elif format == "json":
        print(to_json(found))
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    for message in wrong:
        print(f"pyengine: {message}", file=sys.stderr)
    return 1 if wrong else 0


async def _find(
    engine: Engine, name: str, kinds: Sequence[str], query: Query
) -> Mapping[str, object]:
    for kind in kinds:
        try:
            answer = await engine.transport.json("GET", PATHS[kind].format(name), query=query)
            return fields.mapping(answer, f"a {kind}")
        except ApiError as error:
            # 400: the name is none that such an object can have.
            if len(kinds) == 1 or error.status not in (400, 404):
                raise
    raise NotFound(404, f"no such object: {name}", "")
