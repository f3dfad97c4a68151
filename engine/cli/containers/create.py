"""`pyengine create`; and what `run` does before the start."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.errors import NotFound
from compose.client.terminal import terminal_size
from compose.errors import UsageError
from engine.cli.containers.creation import Body, Here, make_creation
from engine.cli.containers.flags import WHEN, CreateFlags, given, with_options
from engine.cli.images.transfer import pull_image
from engine.cli.options import Image, Words, check_content_trust
from engine.cli.session import Session, on_engine, session
from engine.cli.streams import write_text


@with_options(CreateFlags)
def create(ctx: typer.Context, image: Image, command: Words = None, **options: object) -> None:
    flags = given(CreateFlags, options)
    at = session(ctx)
    body = read_body(at, flags, image, command or [])

    async def work(engine: Engine) -> str:
        return await make_container(engine, flags, body, at)

    print(on_engine(ctx, work))


def read_body(at: Session, flags: CreateFlags, image: str, command: list[str]) -> Body:
    """Everything that can be wrong on this side is found before the engine is asked."""
    check_content_trust(flags.disable_content_trust)
    if flags.kernel_memory:
        print("WARNING: --kernel-memory does nothing: it is part of --memory", file=sys.stderr)
    if flags.pull not in WHEN:
        raise UsageError(f"cannot use --pull {flags.pull!r}: it is one of {', '.join(WHEN)}")
    if flags.cidfile and (at.directory / flags.cidfile).exists():
        raise UsageError(f"cannot write the id to {flags.cidfile}: the file is there already")
    here = Here(str(at.directory), at.environment, lambda path: read_text(at.directory, path))
    size = terminal_size() if flags.tty else None
    return make_creation(flags, image, command, here, size)


def read_text(directory: Path, path: str) -> str:
    try:
        return (directory / path).read_text()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"cannot read {path}: {reason}") from None


async def make_container(engine: Engine, flags: CreateFlags, body: Body, at: Session) -> str:
    """Its id. The image is pulled where it has to be."""
    image = str(body["Image"])
    if flags.pull == "always":
        await _pull(engine, image, flags, at)
    try:
        identity = await _create(engine, flags, body)
    except NotFound as error:
        if flags.pull != "missing" or not error.message.startswith("No such image"):
            raise
        print(f"Unable to find image {image!r} locally", file=sys.stderr)
        await _pull(engine, image, flags, at)
        identity = await _create(engine, flags, body)
    if flags.cidfile:
        write_text(at.directory, flags.cidfile, identity)
    return identity


async def _create(engine: Engine, flags: CreateFlags, body: Body) -> str:
    query = {"name": flags.name or None, "platform": flags.platform or None}
    answer = await engine.transport.json(
        "POST", "/containers/create", query=query, body=engine.proxies.in_body(body)
    )
    created = fields.mapping(answer, "the created container")
    for warning in fields.texts(created, "Warnings"):
        print(f"WARNING: {warning}", file=sys.stderr)
    return fields.text(created, "Id")


async def _pull(engine: Engine, image: str, flags: CreateFlags, at: Session) -> None:
    await pull_image(
        engine, image, at.environment, platform=flags.platform, quiet=flags.quiet, to=sys.stderr
    )
