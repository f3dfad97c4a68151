"""`pyengine port`."""

from __future__ import annotations

from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.errors import UsageError
from engine.cli.options import Container
from engine.cli.session import on_engine


def port(
    ctx: typer.Context,
    container: Container,
    port: Annotated[str, typer.Argument(metavar="[PORT[/PROTOCOL]]", hidden=True)] = "",
) -> None:
    async def ask(engine: Engine) -> object:
        return await engine.transport.json("GET", f"/containers/{container}/json")

    details = fields.mapping(on_engine(ctx, ask), "a container")
    ports = fields.child(fields.child(details, "NetworkSettings"), "Ports")
    wanted = port if not port or "/" in port else f"{port}/tcp"
    lines = []
    for private in sorted(ports, key=lambda name: (int(name.partition("/")[0]), name)):
        for binding in fields.children(ports, private):
            ip = fields.text(binding, "HostIp", "")
            address = f"{f'[{ip}]' if ':' in ip else ip}:{fields.text(binding, 'HostPort')}"
            if not wanted:
                lines.append(f"{private} -> {address}")
            elif private == wanted:
                lines.append(address)
    if wanted and not lines:
        raise UsageError(f"no public port {wanted!r} published for {container}")
    if lines:
        print("\n".join(lines))
