"""Calls about files in containers: docker cp, and what compose copies in."""

from __future__ import annotations

from aiohttp import web

from engine.api.answer import COMMON_HEADERS, empty
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.streams import TAR, send_all
from engine.containers.archive import stat_header

STAT = "X-Docker-Container-Path-Stat"


async def stat(request: Request, engine: Engine) -> web.Response:
    found = await engine.containers.stat_path(request["id"], request.query.text("path"))
    return web.Response(headers={**COMMON_HEADERS, STAT: stat_header(found)})


async def read(request: Request, engine: Engine) -> web.StreamResponse:
    found, pieces = await engine.containers.read_archive(request["id"], request.query.text("path"))
    return await send_all(request, TAR, pieces, headers={STAT: stat_header(found)})


async def write(request: Request, engine: Engine) -> web.Response:
    """The owners in the tar count, unless `copyUIDGID` gives all to the container's user."""
    await engine.containers.write_archive(
        request["id"],
        request.query.text("path"),
        request.chunks(),
        keep_kinds=request.query.flag("noOverwriteDirNonDir"),
        for_user=request.query.flag("copyUIDGID"),
    )
    return empty(200)
