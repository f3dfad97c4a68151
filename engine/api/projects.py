"""Calls of our own, beside Docker's API: the history of a project's declarations."""

from __future__ import annotations

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.fields import Fields
from engine.api.parts import Engine
from engine.api.request import Request
from engine.errors import InvalidRequest

PROJECT = "com.docker.compose.project"


async def listing(request: Request, engine: Engine) -> web.Response:
    return reply(200, {"Revisions": await engine.revisions.list(request["project"])})


async def inspect(request: Request, engine: Engine) -> web.Response:
    text = request["number"]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest(f"invalid revision {text!r}: it has to be a number")
    return reply(200, dict(await engine.revisions.get(request["project"], int(text))))


async def create(request: Request, engine: Engine) -> web.Response:
    project, document = request["project"], await request.document()
    summary = Fields(document).text("summary")
    revision = await engine.revisions.add(project, document)
    tell(engine, "revision", project, number=str(revision["number"]), summary=summary)
    return reply(201, {"Number": revision["number"], "Time": revision["time"]})


async def remove(request: Request, engine: Engine) -> web.Response:
    await engine.revisions.remove(request["project"])
    return empty(204)


async def plan(request: Request, engine: Engine) -> web.Response:
    """A client says what it is about to do: an event for whoever follows."""
    body = Fields(await request.document())
    tell(engine, "plan", request["project"], summary=body.text("summary"))
    return empty(204)


def tell(engine: Engine, action: str, project: str, **attributes: str) -> None:
    engine.events.publish(
        "project", action, project, {PROJECT: project, "name": project, **attributes}
    )
