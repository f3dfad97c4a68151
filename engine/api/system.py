"""Calls about the whole engine: space, log-in, and what a swarm or plugins would answer."""

from __future__ import annotations

import time

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.builds import holding_json
from engine.api.containers import list_sizes
from engine.api.fields import Fields
from engine.api.images import summary_json
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.shown import container_summary
from engine.api.volumes import volume_json
from engine.errors import NO_SWARM_MANAGER, InvalidRequest, NotFound, Unavailable, Unsupported
from engine.registry.credentials import Credentials


async def auth(request: Request, engine: Engine) -> web.Response:
    """`docker login` asks here whether a registry takes the credentials; it keeps them itself."""
    fields = Fields(await request.document())
    credentials = Credentials(
        username=fields.text("username"),
        password=fields.text("password"),
        identity_token=fields.text("identitytoken"),
    )
    with request.until_gone():
        token = await engine.images.log_in(fields.text("serveraddress"), credentials)
    return reply(200, {"IdentityToken": token, "Status": "Login Succeeded"})


async def disk_usage(request: Request, engine: Engine) -> web.Response:
    """`type` chooses parts; what is not asked for is null."""
    asked = request.query.texts("type") if request.version >= (1, 42) else ()
    for kind in asked:
        if kind not in ("container", "image", "volume", "build-cache"):
            raise InvalidRequest(f"unknown object type: {kind}")
    document: dict[str, object] = {
        "LayersSize": 0,
        "Images": None,
        "Containers": None,
        "Volumes": None,
        "BuildCache": None,
    }
    usage = engine.containers.usage()
    if not asked or "image" in asked:
        shared = engine.images.shared_sizes()
        document["LayersSize"] = engine.images.disk_usage()
        document["Images"] = [
            summary_json(
                image,
                request.version,
                containers=usage.images[image.id],
                shared_size=shared.get(image.id, 0),
            )
            for image in engine.images.list()
        ]
    if not asked or "container" in asked:
        now = time.time_ns()
        document["Containers"] = [
            {
                **container_summary(record, image=record.config.image, now=now),
                **await list_sizes(engine, record),
            }
            for record in engine.containers.list()
        ]
    if not asked or "volume" in asked:
        document["Volumes"] = [
            {
                **volume_json(volume),
                "UsageData": {
                    "Size": await engine.volumes.size(volume),
                    "RefCount": usage.volumes[volume.name],
                },
            }
            for volume in engine.volumes.list()
            if not volume.options  # as in Docker: what is elsewhere takes no room here
        ]
    if not asked or "build-cache" in asked:
        document["BuildCache"] = [
            holding_json(one) for one in await engine.builder.cache.holdings()
        ]
    return reply(200, document)


async def plugins(request: Request, engine: Engine) -> web.Response:
    filters = request.query.filters()
    filters.check({"capability", "enabled"})
    filters.flag("enabled")
    return reply(200, [])


async def no_plugin(request: Request, engine: Engine) -> web.Response:
    raise NotFound(f'plugin "{request["name"]}" not found')


async def no_plugins(request: Request, engine: Engine) -> web.Response:
    raise Unsupported("cannot install a plugin: this engine runs none")


async def no_swarm(request: Request, engine: Engine) -> web.Response:
    """A request that no swarm would understand is told that first."""
    await request.document()
    raise Unavailable(NO_SWARM_MANAGER)


async def no_swarm_update(request: Request, engine: Engine) -> web.Response:
    """Which version of the object is meant has to be said, even here."""
    version = request.query.text("version")
    if not (version.isascii() and version.isdecimal()):
        raise InvalidRequest(f"invalid swarm object version {version!r}: it has to be a number")
    return await no_swarm(request, engine)


async def no_swarm_to_join(request: Request, engine: Engine) -> web.Response:
    await request.document()
    raise Unsupported("cannot set up a swarm: this engine works on one machine")


async def no_swarm_to_leave(request: Request, engine: Engine) -> web.Response:
    raise Unavailable("This node is not part of a swarm")


async def no_cluster_volumes(request: Request, engine: Engine) -> web.Response:
    raise Unavailable("volume update only valid for cluster volumes, but swarm is unavailable")


async def no_checkpoints(request: Request, engine: Engine) -> web.Response:
    raise Unsupported("cannot make checkpoints: this engine doesn't freeze processes to disk")


async def options(request: Request, engine: Engine) -> web.Response:
    return empty(200)


async def no_buildkit(request: Request, engine: Engine) -> web.Response:
    """Docker's clients ask for an upgrade here; any refusal makes them fall back."""
    raise NotFound("page not found")
