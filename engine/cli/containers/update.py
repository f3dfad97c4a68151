"""`pyengine update`."""

from __future__ import annotations

import typer

from compose.client.engine import Engine
from compose.errors import UsageError
from engine.cli.containers.creation import Body, make_limits
from engine.cli.containers.flags import UpdateFlags, given, with_options
from engine.cli.containers.readers import restart_policy
from engine.cli.options import Containers
from engine.cli.session import each


@with_options(UpdateFlags)
def update(ctx: typer.Context, containers: Containers, **options: object) -> int:
    flags = given(UpdateFlags, options)
    if flags == UpdateFlags():
        raise UsageError("there is nothing to update: no option was given")
    body: Body = {key: value for key, value in make_limits(flags).items() if value}
    if flags.restart:
        body["RestartPolicy"] = restart_policy(flags.restart)

    async def act(engine: Engine, name: str) -> None:
        await engine.transport.json("POST", f"/containers/{name}/update", body=body)

    return each(ctx, containers, act)
