"""`pyengine pull` and `push`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TextIO

import typer

from compose.client.credentials import CredentialStore
from compose.client.engine import Engine
from compose.client.images import split_reference
from compose.errors import UsageError
from engine.cli.options import ContentTrust, Image, Platform, check_content_trust
from engine.cli.progress import follow
from engine.cli.session import on_engine, session

# Where nobody is logged in the header is still wanted: base64 of {}.
NOBODY = "e30="
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only the name at the end.")]


def pull(
    ctx: typer.Context,
    image: Image,
    all_tags: Annotated[bool, typer.Option("-a", "--all-tags", help="Every tag there is.")] = False,
    disable_content_trust: ContentTrust = True,
    platform: Platform = "",
    quiet: Quiet = False,
) -> None:
    check_content_trust(disable_content_trust)
    name, tag = split_reference(image)
    if all_tags and image != name:
        raise UsageError(f"cannot pull all tags of {image}: it names one")
    if not all_tags and tag == "latest" and image == name and not quiet:
        print("Using default tag: latest")

    async def work(engine: Engine) -> None:
        await pull_image(
            engine, image, session(ctx).environment,
            platform=platform, quiet=quiet, all_tags=all_tags,
        )  # fmt: skip

    on_engine(ctx, work)
    print(full_name(image))


async def pull_image(
    engine: Engine,
    image: str,
    environment: Mapping[str, str],
    *,
    platform: str = "",
    quiet: bool = False,
    all_tags: bool = False,
    to: TextIO | None = None,
) -> None:
    name, tag = split_reference(image)
    credentials = await CredentialStore(environment).header(image)
    await follow(
        engine,
        "/images/create",
        query={
            "fromImage": name,
            "tag": None if all_tags else tag,
            "platform": platform or None,
        },
        headers={"X-Registry-Auth": credentials} if credentials else None,
        quiet=quiet,
        to=to,
    )


def push(
    ctx: typer.Context,
    image: Image,
    all_tags: Annotated[bool, typer.Option("-a", "--all-tags", help="Every tag here.")] = False,
    disable_content_trust: ContentTrust = True,
    platform: Annotated[
        str,
        typer.Option("--platform", help="Only this of several.", metavar="OS/ARCH[/VARIANT]"),
    ] = "",
    quiet: Quiet = False,
) -> None:
    check_content_trust(disable_content_trust)
    name, tag = split_reference(image)
    if all_tags and image != name:
        raise UsageError(f"cannot push all tags of {image}: it names one")
    if not all_tags and image == name and not quiet:
        print("Using default tag: latest")

    async def work(engine: Engine) -> None:
        credentials = await CredentialStore(session(ctx).environment).header(image)
        await follow(
            engine,
            f"/images/{name}/push",
            query={
                "tag": None if all_tags else tag,
                "platform": platform_json(platform),
            },
            headers={"X-Registry-Auth": credentials or NOBODY},
            quiet=quiet,
        )

    on_engine(ctx, work)
    if quiet:
        print(full_name(image))


def platform_json(text: str) -> str | None:
    """`linux/arm64/v8` as the calls want it that came with several platforms in one image."""
    import json
    import os

    from engine.oci.platform import parse_platform, platform_of

    if not text:
        return None
    wanted = parse_platform(text, platform_of("linux", os.uname().machine))
    variant = {"variant": wanted.variant} if wanted.variant else {}
    return json.dumps({"os": wanted.os, "architecture": wanted.architecture, **variant})


def full_name(image: str) -> str:
    """With registry and tag, as `docker pull` tells at the end."""
    name, tag = split_reference(image)
    first, slash, _ = name.partition("/")
    if not slash:
        name = f"docker.io/library/{name}"
    elif not (first == "localhost" or "." in first or ":" in first):
        name = f"docker.io/{name}"
    return f"{name}{'@' if ':' in tag else ':'}{tag}"
