"""Files of containers: cp, diff, export, commit."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from compose.client import fields
from compose.client.copying import copy_in, copy_out, parse_place
from compose.client.engine import Engine
from compose.client.human import human_size
from compose.client.images import split_reference
from compose.errors import UsageError
from engine.cli.complete import container_paths
from engine.cli.images.archives import Change
from engine.cli.options import Container
from engine.cli.session import on_engine, session
from engine.cli.streams import write_stream

# Kinds of changes, as the API numbers them.
CHANGED = {0: "C", 1: "A", 2: "D"}
ContainerPath = Annotated[
    str,
    typer.Argument(metavar="[CONTAINER:]PATH", hidden=True, autocompletion=container_paths),
]


def cp(
    ctx: typer.Context,
    source: ContainerPath,
    target: ContainerPath,
    archive: Annotated[bool, typer.Option("-a", "--archive", help="Keep the owners' ids.")] = False,
    follow: Annotated[
        bool, typer.Option("-L", "--follow-link", help="What a link leads to.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing.")] = False,
) -> None:
    """ "-" is a tar on standard input or output."""
    one, other = parse_place(source), parse_place(target)
    if bool(one.owner) == bool(other.owner):
        raise UsageError(
            "one of the two must be in a container, and one here\n"
            "  hint: pyengine cp web:/etc/hosts . or pyengine cp page.html web:/srv/"
        )
    here = session(ctx).directory

    async def work(engine: Engine) -> int:
        if one.owner:
            return await copy_out(
                engine.containers, one.owner, one, other.path, here,
                archive=archive, follow=follow,
            )  # fmt: skip
        return await copy_in(
            engine.containers, {other.owner: other.owner}, one, other.path, here,
            archive=archive, follow=follow,
        )  # fmt: skip

    size = on_engine(ctx, work)
    if not quiet and "-" not in (source, target):
        print(f"Successfully copied {human_size(size, digits=3)} to {target}", file=sys.stderr)


def diff(ctx: typer.Context, container: Container) -> None:
    async def ask(engine: Engine) -> object:
        return await engine.transport.json("GET", f"/containers/{container}/changes")

    for item in fields.items(on_engine(ctx, ask), "the changes"):
        change = fields.mapping(item, "a change")
        print(CHANGED.get(fields.number(change, "Kind"), "?"), fields.text(change, "Path"))


def export(
    ctx: typer.Context,
    container: Container,
    output: Annotated[
        str, typer.Option("-o", "--output", help="Not to standard output.", metavar="FILE")
    ] = "",
) -> None:
    async def work(engine: Engine) -> None:
        async with engine.containers.export(container) as chunks:
            await write_stream(chunks, session(ctx).directory, output)

    on_engine(ctx, work)


def commit(
    ctx: typer.Context,
    container: Container,
    name: Annotated[str, typer.Argument(metavar="[NAME[:TAG]]", hidden=True)] = "",
    author: Annotated[str, typer.Option("-a", "--author", help="Who made it.")] = "",
    change: Change = None,
    message: Annotated[str, typer.Option("-m", "--message", help="For its history.")] = "",
    pause: Annotated[
        bool, typer.Option("-p/ ", "--pause/--no-pause", help="Stop its clock meanwhile.")
    ] = True,
) -> None:
    repository, tag = split_reference(name) if name else ("", "")

    async def work(engine: Engine) -> str:
        return await engine.containers.commit(
            container, repository, tag,
            author=author, comment=message, changes=change or (), pause=pause,
        )  # fmt: skip

    print(on_engine(ctx, work))
