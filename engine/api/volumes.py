"""Calls about volumes."""

from __future__ import annotations

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.fields import Fields
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.selection import VOLUME_FILTERS, select_volumes
from engine.api.shown import Document
from engine.errors import NO_SWARM_MANAGER, Unavailable
from engine.volumes.model import Volume

_PRUNE_FILTERS = (VOLUME_FILTERS - {"dangling", "driver", "name"}) | {"all", "label!"}


async def create(request: Request, engine: Engine) -> web.Response:
    body = Fields(await request.document())
    if "ClusterVolumeSpec" in body:
        raise Unavailable(NO_SWARM_MANAGER)
    known = {volume.name for volume in engine.volumes.list()}
    volume = await engine.volumes.create(
        body.text("Name"),
        driver=body.text("Driver") or "local",
        options=body.text_map("DriverOpts"),
        labels=body.text_map("Labels"),
    )
    if volume.name not in known:
        tell(engine, "create", volume.name)
    return reply(201, volume_json(volume))


async def listing(request: Request, engine: Engine) -> web.Response:
    usage = engine.containers.usage()
    chosen = select_volumes(
        engine.volumes.list(),
        request.query.filters(),
        is_used=lambda name: name in usage.volumes,
    )
    return reply(200, {"Volumes": [volume_json(volume) for volume in chosen], "Warnings": None})


async def inspect(request: Request, engine: Engine) -> web.Response:
    return reply(200, volume_json(engine.volumes.get(request["name"])))


async def remove(request: Request, engine: Engine) -> web.Response:
    was_there = await engine.volumes.remove(
        request["name"],
        force=request.query.flag("force"),
        users=engine.containers.volume_users,
    )
    if was_there:
        tell(engine, "destroy", request["name"])
    return empty(204)


def tell(engine: Engine, action: str, name: str) -> None:
    engine.events.publish("volume", action, name, {"driver": "local"})


async def prune(request: Request, engine: Engine) -> web.Response:
    """Since API 1.42 only anonymous volumes go, unless all are asked for."""
    filters = request.query.filters()
    filters.check(_PRUNE_FILTERS)
    pruned = await engine.volumes.prune(
        lambda volume: filters.labels(volume.labels),
        all_=filters.flag("all") is True or request.version < (1, 42),
        users=engine.containers.volume_users,
    )
    for name in pruned.names:
        tell(engine, "destroy", name)
    engine.events.publish("volume", "prune", "", {"reclaimed": str(pruned.reclaimed)})
    return reply(200, {"VolumesDeleted": pruned.names, "SpaceReclaimed": pruned.reclaimed})


def volume_json(volume: Volume) -> Document:
    return {
        "CreatedAt": volume.created,
        "Driver": volume.driver,
        "Labels": volume.labels or None,
        "Mountpoint": volume.mountpoint,
        "Name": volume.name,
        "Options": volume.options or None,
        "Scope": volume.scope,
    }
