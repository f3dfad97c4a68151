"""THE table: which call goes to which handler, and since which version of the API.

Of the routes that fit a path the first counts. `{id}` is one segment, `{name:.*}` any number.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from engine.api import (
    archive,
    builds,
    containers,
    events,
    execs,
    images,
    info,
    networks,
    projects,
    registries,
    stats,
    system,
    volumes,
    websocket,
)
from engine.api.parts import Engine
from engine.api.request import Request, Version

# What only the manager of a swarm can answer.
_KINDS = ("services", "nodes", "tasks", "secrets", "configs")
SWARM = (
    ("GET", "/swarm"),
    ("GET", "/swarm/unlockkey"),
    ("POST", "/swarm/unlock"),
    *(("GET", f"/{kind}") for kind in _KINDS),
    *(("GET", f"/{kind}/{{id}}") for kind in _KINDS),
    *(("GET", f"/{kind}/{{id}}/logs") for kind in ("services", "tasks")),
    *(("DELETE", f"/{kind}/{{id}}") for kind in _KINDS if kind != "tasks"),
    *(("POST", f"/{kind}/create") for kind in ("services", "secrets", "configs")),
)
SWARM_UPDATES = (
    "/swarm/update",
    *(f"/{kind}/{{id}}/update" for kind in _KINDS if kind != "tasks"),
)
PLUGIN_VERBS = ("enable", "disable", "push", "set", "upgrade")
Handler = Callable[[Request, Engine], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    since: Version = (1, 24)


ROUTES: tuple[Route, ...] = (
    Route("GET", "/_ping", info.ping),
    Route("HEAD", "/_ping", info.ping),
    Route("GET", "/version", info.version),
    Route("GET", "/info", info.info),
    Route("GET", "/events", events.events),
    Route("GET", "/system/df", system.disk_usage),
    Route("POST", "/auth", system.auth),
    #
    Route("GET", "/containers/json", containers.listing),
    Route("POST", "/containers/create", containers.create),
    Route("POST", "/containers/prune", containers.prune, since=(1, 25)),
    Route("GET", "/containers/{id}/json", containers.inspect),
    Route("GET", "/containers/{id}/top", containers.top),
    Route("GET", "/containers/{id}/logs", containers.logs),
    Route("GET", "/containers/{id}/changes", containers.changes),
    Route("HEAD", "/containers/{id}/archive", archive.stat),
    Route("GET", "/containers/{id}/archive", archive.read),
    Route("PUT", "/containers/{id}/archive", archive.write),
    Route("GET", "/containers/{id}/stats", stats.stats),
    Route("POST", "/containers/{id}/start", containers.start),
    Route("POST", "/containers/{id}/stop", containers.stop),
    Route("POST", "/containers/{id}/restart", containers.restart),
    Route("POST", "/containers/{id}/kill", containers.kill),
    Route("POST", "/containers/{id}/pause", containers.pause),
    Route("POST", "/containers/{id}/unpause", containers.unpause),
    Route("POST", "/containers/{id}/rename", containers.rename),
    Route("POST", "/containers/{id}/update", containers.update),
    Route("POST", "/containers/{id}/resize", containers.resize),
    Route("POST", "/containers/{id}/attach", containers.attach),
    Route("GET", "/containers/{id}/attach/ws", websocket.attach),
    Route("GET", "/containers/{id}/export", containers.export),
    Route("POST", "/containers/{id}/wait", containers.wait),
    Route("DELETE", "/containers/{id}/checkpoints/{name}", system.no_checkpoints),
    Route("DELETE", "/containers/{id:.*}", containers.remove),
    #
    Route("POST", "/containers/{id}/exec", execs.create),
    Route("POST", "/exec/{id}/start", execs.start),
    Route("POST", "/exec/{id}/resize", execs.resize),
    Route("GET", "/exec/{id}/json", execs.inspect),
    #
    Route("GET", "/images/json", images.listing),
    Route("GET", "/images/search", registries.search),
    Route("GET", "/images/get", images.save),
    Route("POST", "/images/create", images.create),
    Route("POST", "/images/load", images.load),
    Route("POST", "/images/prune", images.prune, since=(1, 25)),
    Route("GET", "/images/{name:.*}/json", images.inspect),
    Route("GET", "/images/{name:.*}/history", images.history),
    Route("GET", "/images/{name:.*}/get", images.save_one),
    Route("POST", "/images/{name:.*}/tag", images.tag),
    Route("DELETE", "/images/{name:.*}", images.remove),
    Route("POST", "/images/{name:.*}/push", images.push),
    Route("GET", "/distribution/{name:.*}/json", registries.distribution, since=(1, 30)),
    Route("POST", "/build", builds.build),
    Route("POST", "/build/prune", builds.prune, since=(1, 31)),
    Route("GET", "/build/contexts/{id}", builds.known_context),
    Route("PUT", "/build/contexts/{id}", builds.keep_context),
    Route("POST", "/build/cancel", builds.cancel, since=(1, 38)),
    Route("POST", "/commit", images.commit),
    #
    Route("GET", "/networks", networks.listing),
    Route("GET", "/networks/", networks.listing),
    Route("POST", "/networks/create", networks.create),
    Route("POST", "/networks/prune", networks.prune, since=(1, 25)),
    Route("GET", "/networks/{id:.*}", networks.inspect),
    Route("DELETE", "/networks/{id:.*}", networks.remove),
    Route("POST", "/networks/{id:.*}/connect", networks.connect),
    Route("POST", "/networks/{id:.*}/disconnect", networks.disconnect),
    #
    Route("GET", "/pycompose/projects/{project}/revisions", projects.listing),
    Route("POST", "/pycompose/projects/{project}/revisions", projects.create),
    Route("DELETE", "/pycompose/projects/{project}/revisions", projects.remove),
    Route("GET", "/pycompose/projects/{project}/revisions/{number}", projects.inspect),
    Route("POST", "/pycompose/projects/{project}/plans", projects.plan),
    #
    Route("GET", "/volumes", volumes.listing),
    Route("POST", "/volumes/create", volumes.create),
    Route("POST", "/volumes/prune", volumes.prune, since=(1, 25)),
    Route("GET", "/volumes/{name:.*}", volumes.inspect),
    Route("DELETE", "/volumes/{name:.*}", volumes.remove),
    #
    # No swarm, no plugins, no BuildKit: what Docker says where it has none of them.
    *(Route(method, path, system.no_swarm) for method, path in SWARM),
    *(Route("POST", path, system.no_swarm_update) for path in SWARM_UPDATES),
    Route("POST", "/swarm/init", system.no_swarm_to_join),
    Route("POST", "/swarm/join", system.no_swarm_to_join),
    Route("POST", "/swarm/leave", system.no_swarm_to_leave),
    Route("PUT", "/volumes/{name:.*}", system.no_cluster_volumes, since=(1, 42)),
    Route("GET", "/plugins", system.plugins),
    Route("GET", "/plugins/privileges", system.no_plugins),
    Route("POST", "/plugins/pull", system.no_plugins),
    Route("POST", "/plugins/create", system.no_plugins),
    Route("GET", "/plugins/{name:.*}/json", system.no_plugin),
    *(Route("POST", f"/plugins/{{name:.*}}/{verb}", system.no_plugin) for verb in PLUGIN_VERBS),
    Route("DELETE", "/plugins/{name:.*}", system.no_plugin),
    Route("GET", "/containers/{id}/checkpoints", system.no_checkpoints),
    Route("POST", "/containers/{id}/checkpoints", system.no_checkpoints),
    Route("POST", "/session", system.no_buildkit),
    Route("POST", "/grpc", system.no_buildkit),
    Route("OPTIONS", "/{path:.*}", system.options),
)
