"""The options and arguments that several commands share, and how their values are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from compose.errors import UsageError
from engine.cli.complete import (
    container_names,
    image_names,
    network_names,
    one_of,
    volume_names,
)

Filter = Annotated[
    list[str] | None,
    typer.Option("-f", "--filter", help="Only what fits; may be repeated.", metavar="KEY=VALUE"),
]
PruneFilter = Annotated[
    list[str] | None,
    typer.Option("--filter", help="Only what fits; may be repeated.", metavar="KEY=VALUE"),
]
Format = Annotated[
    str,
    typer.Option(
        "--format", help="table, json, a template as '{{.Name}}', or 'table TEMPLATE'.",
        metavar="FORMAT", autocompletion=one_of("json", "table"),
    ),
]  # fmt: skip
NoTrunc = Annotated[bool, typer.Option("--no-trunc", help="Nothing cut short.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only ids.")]
Yes = Annotated[bool, typer.Option("-f", "--force", help="Don't ask.")]
Container = Annotated[
    str, typer.Argument(metavar="CONTAINER", hidden=True, autocompletion=container_names)
]
Containers = Annotated[
    list[str], typer.Argument(metavar="CONTAINER...", hidden=True, autocompletion=container_names)
]
Image = Annotated[str, typer.Argument(metavar="IMAGE", hidden=True, autocompletion=image_names)]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", hidden=True, autocompletion=image_names)
]
Network = Annotated[
    str, typer.Argument(metavar="NETWORK", hidden=True, autocompletion=network_names)
]
Networks = Annotated[
    list[str], typer.Argument(metavar="NETWORK...", hidden=True, autocompletion=network_names)
]
Volumes = Annotated[
    list[str], typer.Argument(metavar="VOLUME...", hidden=True, autocompletion=volume_names)
]
Words = Annotated[list[str] | None, typer.Argument(metavar="[COMMAND...]", hidden=True)]
ContentTrust = Annotated[
    bool,
    typer.Option(
        "--disable-content-trust/--enable-content-trust",
        help="Don't check signatures: the one way there is.",
    ),
]
Platform = Annotated[
    str, typer.Option("--platform", help="Which of several.", metavar="OS/ARCH[/VARIANT]")
]


def check_content_trust(disabled: bool) -> None:
    if not disabled:
        raise UsageError(
            "cannot check the signatures of images (content trust): not supported\n"
            "  hint: name the image by its digest, as in NAME@sha256:..."
        )


def pairs(option: str, words: Sequence[str] | None) -> dict[str, list[str]]:
    """`KEY=VALUE`, each key with all of its values."""
    found: dict[str, list[str]] = {}
    for word in words or ():
        key, equals, value = word.partition("=")
        if not equals:
            raise typer.BadParameter(f"{option} {word!r}: it has to be KEY=VALUE")
        found.setdefault(key.strip().lower(), []).append(value.strip())
    return found


def filters(words: Sequence[str] | None) -> str | None:
    """As the API's `filters`."""
    from compose.client.containers import encode_filters

    return encode_filters(pairs("--filter", words))
