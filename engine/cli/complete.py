"""What a shell offers for a word that was begun: names on the engine, if one runs.

A shell that waits, or starts an engine because somebody pressed Tab, is worse than none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import typer

from engine.cli.session import choice_of

if TYPE_CHECKING:
    from compose.client.address import Choice
    from compose.client.engine import Engine

PATIENCE = 2.0  # seconds
Rows = list[Mapping[str, object]]


def container_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _begun(ctx, incomplete, "/containers/json", _names_of_container)


def image_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _begun(ctx, incomplete, "/images/json", lambda row: _texts(row.get("RepoTags")))


def network_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _begun(ctx, incomplete, "/networks", lambda row: [str(row.get("Name"))])


def volume_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _begun(ctx, incomplete, "/volumes", lambda row: [str(row.get("Name"))])


def some_network(ctx: typer.Context, incomplete: str) -> list[str]:
    """What --network of a container may be."""
    return _sharing(ctx, incomplete, *network_names(ctx, incomplete))


def some_container(ctx: typer.Context, incomplete: str) -> list[str]:
    """What --pid of a container may be."""
    return _sharing(ctx, incomplete, "host")


def ipc_modes(ctx: typer.Context, incomplete: str) -> list[str]:
    return _sharing(ctx, incomplete, "host", "none", "private", "shareable")


def _sharing(ctx: typer.Context, incomplete: str, *others: str) -> list[str]:
    """The others, or `container:NAME`."""
    prefix = "container:"
    if incomplete.startswith(prefix):
        names = container_names(ctx, incomplete.removeprefix(prefix))
        return [prefix + name for name in names]
    return [word for word in (*others, prefix) if word.startswith(incomplete)]


def container_paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """The part before a path in a container; nothing for a path of this machine."""
    return [f"{name}:" for name in container_names(ctx, incomplete)]


def volume_sources(ctx: typer.Context, incomplete: str) -> list[str]:
    return [f"{name}:" for name in volume_names(ctx, incomplete)]


def any_names(ctx: typer.Context, incomplete: str) -> list[str]:
    kinds = (container_names, image_names, network_names, volume_names)
    return sorted({name for names in kinds for name in names(ctx, incomplete)})


def signal_names(incomplete: str) -> list[str]:
    import signal

    return [one.name for one in signal.Signals if one.name.startswith(incomplete)]


def capabilities(incomplete: str) -> list[str]:
    from engine.runtime.capabilities import NAMES

    return [name for name in ("ALL", *NAMES) if name.startswith(incomplete)]


def log_drivers(incomplete: str) -> list[str]:
    from engine.containers.log_options import DRIVERS

    return [name for name in DRIVERS if name.startswith(incomplete)]


def variables(incomplete: str) -> list[str]:
    return sorted(name for name in os.environ if name.startswith(incomplete))


def one_of(*words: str) -> Callable[[str], list[str]]:
    def fitting(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return fitting


def _names_of_container(row: Mapping[str, object]) -> list[str]:
    return [name.removeprefix("/") for name in _texts(row.get("Names"))]


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _begun(
    ctx: typer.Context,
    incomplete: str,
    path: str,
    named: Callable[[Mapping[str, object]], Iterable[str]],
) -> list[str]:
    from compose.client.errors import ClientError

    try:
        rows = asyncio.run(_ask(choice_of(ctx), path))
    except (ClientError, TimeoutError):
        return []
    names = {name for row in rows for name in named(row)}
    return sorted(name for name in names if name.startswith(incomplete))


async def _ask(choice: Choice, path: str) -> Rows:
    async with asyncio.timeout(PATIENCE):
        engine = await _running(choice)
        answer = await engine.transport.json("GET", path, query={"all": True}) if engine else None
    if isinstance(answer, dict):
        answer = answer.get("Volumes")
    return [row for row in answer if isinstance(row, dict)] if isinstance(answer, list) else []


async def _running(choice: Choice) -> Engine | None:
    from compose.client.engine import connect
    from compose.client.locate import built_in_places, chosen_address, connect_if_running

    if address := chosen_address(choice, os.environ):
        return await connect(address)
    return await connect_if_running(built_in_places(os.getuid(), os.environ).address, {})
