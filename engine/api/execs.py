"""Calls about execs: more processes in a running container."""

from __future__ import annotations

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.containers import read_size
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.shown import exec_json
from engine.api.streams import carry
from engine.api.wire import read_exec, read_exec_start


async def create(request: Request, engine: Engine) -> web.Response:
    config = read_exec(await request.document())
    made = await engine.containers.exec_create(request["id"], config)
    return reply(201, {"Id": made.id})


async def start(request: Request, engine: Engine) -> web.StreamResponse:
    detach, tty, console_size = read_exec_start(await request.document())
    if not tty or request.version < (1, 42):
        console_size = (0, 0)
    instance = engine.containers.exec_inspect(request["id"])
    streams = await engine.containers.exec_start(
        instance.id, detach=detach, tty=tty, console_size=console_size
    )
    if streams is None:
        return empty(200)
    return await carry(request, streams, stdin=instance.config.attach_stdin)


async def inspect(request: Request, engine: Engine) -> web.Response:
    return reply(200, exec_json(engine.containers.exec_inspect(request["id"])))


async def resize(request: Request, engine: Engine) -> web.Response:
    height, width = read_size(request)
    await engine.containers.exec_resize(request["id"], height=height, width=width)
    return empty(200)
