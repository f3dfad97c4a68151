"""`pyengine save`, `load` and `import`: images as files."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from compose.client.engine import Engine
from compose.client.images import split_reference
from engine.cli.images.transfer import platform_json
from engine.cli.options import Images, Platform
from engine.cli.progress import follow
from engine.cli.session import on_engine, session
from engine.cli.streams import opened, read_blocks, write_stream

Change = Annotated[
    list[str] | None,
    typer.Option(
        "-c", "--change", help="A Dockerfile's instruction for it.", metavar="INSTRUCTION"
    ),
]


def save(
    ctx: typer.Context,
    images: Images,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Not to standard output.", metavar="FILE")
    ] = "",
    platform: Platform = "",
) -> None:
    async def work(engine: Engine) -> None:
        query = {"names": [*images], "platform": platform_json(platform)}
        async with engine.transport.stream("GET", "/images/get", query=query) as answer:
            await write_stream(answer.chunks, session(ctx).directory, output)

    on_engine(ctx, work)


def load(
    ctx: typer.Context,
    input: Annotated[
        str, typer.Option("-i", "--input", help="Not from standard input.", metavar="FILE")
    ] = "",
    platform: Platform = "",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the names.")] = False,
) -> None:
    async def work(engine: Engine) -> None:
        with opened(session(ctx).directory, input or "-") as file:
            await follow(
                engine,
                "/images/load",
                query={"quiet": quiet, "platform": platform_json(platform)},
                body=read_blocks(file),
                quiet=False,
            )

    on_engine(ctx, work)


def import_(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE|URL|-", hidden=True)],
    name: Annotated[str, typer.Argument(metavar="[NAME[:TAG]]", hidden=True)] = "",
    change: Change = None,
    message: Annotated[str, typer.Option("-m", "--message", help="For its history.")] = "",
    platform: Annotated[
        str, typer.Option("--platform", help="What it is for.", metavar="OS/ARCH[/VARIANT]")
    ] = "",
) -> None:
    repository, tag = split_reference(name) if name else ("", "")
    is_url = source.startswith(("http://", "https://"))
    query = {
        "fromSrc": source if is_url else "-",
        "repo": repository or None,
        "tag": tag or None,
        "message": message or None,
        "changes": [*(change or ())],
        "platform": platform or None,
    }

    async def work(engine: Engine) -> None:
        with contextlib.ExitStack() as stack:
            body = None
            if not is_url:
                body = read_blocks(stack.enter_context(opened(session(ctx).directory, source)))
            await follow(engine, "/images/create", query=query, body=body, quiet=False)

    on_engine(ctx, work)
