"""What the engine is, what it holds, what happens in it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from aiohttp import web

from engine.api.answer import API_VERSION, COMMON_HEADERS, OLDEST_API_VERSION, reply
from engine.api.builds import holding_json
from engine.api.fields import Fields
from engine.api.images import summary_json
from engine.api.parts import Engine
from engine.api.registries import registries_json
from engine.api.request import Request
from engine.api.shown import container_summary
from engine.api.streams import JSON, Stream
from engine.api.volumes import volume_json
from engine.containers.log_options import DRIVERS
from engine.containers.model import Record, Status
from engine.errors import InvalidRequest, Unavailable, Unsupported
from engine.events import Event
from engine.filters import Filters, has_label
from engine.registry.credentials import Credentials
from engine.settings import VERSION

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "armv7l": "arm"}


async def ping(request: Request, engine: Engine) -> web.Response:
    headers = {
        **COMMON_HEADERS,
        "Builder-Version": "1",
        "Swarm": "inactive",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Pragma": "no-cache",
        "Content-Type": "text/plain; charset=utf-8",
    }
    if request.http.method == "HEAD":
        return web.Response(headers={**headers, "Content-Length": "0"})
    return web.Response(headers=headers, body=b"OK")


@dataclass(frozen=True, slots=True)
class Machine:
    """What doesn't change while the daemon lives."""

    kernel: str
    architecture: str  # as Docker says it: amd64
    machine: str  # as uname says it: x86_64
    hostname: str
    operating_system: str
    cpus: int
    memory: int  # bytes
    cgroup_version: str
    started: str  # RFC 3339


@cache
def machine() -> Machine:
    names = os.uname()
    return Machine(
        kernel=names.release,
        architecture=_ARCHITECTURES.get(names.machine, names.machine),
        machine=names.machine,
        hostname=names.nodename,
        operating_system=_operating_system(),
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version="2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


async def version(request: Request, engine: Engine) -> web.Response:
    here = machine()
    python = f"python{platform.python_version()}"
    details = {
        "ApiVersion": API_VERSION,
        "Arch": here.architecture,
        "BuildTime": "",
        "Experimental": "false",
        "GitCommit": "",
        "GoVersion": python,
        "KernelVersion": here.kernel,
        "MinAPIVersion": OLDEST_API_VERSION,
        "Os": "linux",
    }
    document = {
        "Platform": {"Name": "pycompose engine"},
        "Components": [{"Name": "Engine", "Version": VERSION, "Details": details}],
        "Version": VERSION,
        **details,
    }
    del document["Experimental"]
    return reply(200, document)


async def info(request: Request, engine: Engine) -> web.Response:
    here = machine()
    records = engine.containers.list()
    return reply(
        200,
        {
            "ID": engine.id,
            **_counts(records),
            "Images": len(engine.images.list()),
            "Driver": "overlay2",
            "DriverStatus": [],
            "Plugins": {
                "Volume": ["local"],
                "Network": ["bridge", "host", "null"],
                "Authorization": None,
                "Log": sorted(DRIVERS),
            },
            "MemoryLimit": True,
            "SwapLimit": True,
            "CpuCfsPeriod": True,
            "CpuCfsQuota": True,
            "CPUShares": True,
            "CPUSet": True,
            "PidsLimit": True,
            "OomKillDisable": here.cgroup_version == "1",
            "IPv4Forwarding": True,
            "Debug": False,
            "NFd": len(os.listdir("/proc/self/fd")),
            "NGoroutines": 0,
            "SystemTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "LoggingDriver": engine.settings.containers.log_driver,
            "CgroupDriver": "cgroupfs",
            "CgroupVersion": here.cgroup_version,
            "NEventsListener": len(engine.events.subscriptions),
            "KernelVersion": here.kernel,
            "OperatingSystem": here.operating_system,
            "OSVersion": "",
            "OSType": "linux",
            "Architecture": here.machine,
            "IndexServerAddress": "https://index.docker.io/v1/",
            "RegistryConfig": registries_json(engine.settings.registries),
            "NCPU": here.cpus,
            "MemTotal": here.memory,
            "GenericResources": None,
            "DockerRootDir": str(engine.settings.data_root),
            "HttpProxy": "",
            "HttpsProxy": "",
            "NoProxy": "",
            "Name": here.hostname,
            "Labels": engine.settings.labels,
            "ExperimentalBuild": False,
            "ServerVersion": VERSION,
            "Runtimes": {"pyengine": {"path": "pyengine"}},
            "DefaultRuntime": "pyengine",
            "Swarm": {
                "NodeID": "",
                "NodeAddr": "",
                "LocalNodeState": "inactive",
                "ControlAvailable": False,
                "Error": "",
                "RemoteManagers": None,
            },
            "LiveRestoreEnabled": True,
            "Isolation": "",
            "InitBinary": "pyengine",
            "SecurityOptions": ["name=seccomp,profile=builtin"],
            "Warnings": None,
        },
    )


def _counts(records: tuple[Record, ...]) -> dict[str, int]:
    states = [record.state.status for record in records]
    running = sum(status is Status.RUNNING for status in states)
    paused = sum(status is Status.PAUSED for status in states)
    return {
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": len(states) - running - paused,
    }


EVENT_FILTERS = frozenset(
    {
        *("config", "container", "daemon", "event", "image", "label", "network", "node"),
        *("plugin", "scope", "secret", "service", "type", "volume"),
    }
)


async def events(request: Request, engine: Engine) -> web.StreamResponse:
    filters = request.query.filters()
    filters.check(EVENT_FILTERS)
    since, until = request.query.seconds("since"), request.query.seconds("until")
    subscription = engine.events.subscribe(
        since=since, until=until, wanted=lambda event: is_wanted(event, filters)
    )
    stream = Stream(request, JSON)
    with subscription, request.until_gone():
        async with stream:
            async for event in subscription:
                await stream.message(event_json(event))
    return stream.response


def is_wanted(event: Event, filters: Filters) -> bool:
    """Pure. `container=x` and its like choose by id, id prefix or name, within that type."""
    if not filters:
        return True
    attributes = event.attributes

    def is_the(kind: str) -> bool:
        return filters.any(
            kind,
            lambda value: (
                event.type == kind
                and (event.id.startswith(value) or attributes.get("name") == value)
            ),
        )

    return (
        filters.any("type", lambda value: value == event.type)
        and filters.any("event", lambda value: _is_action(event.action, value))
        and filters.any("scope", lambda value: value == "local")
        and all(has_label(attributes, label) for label in filters.get("label"))
        and filters.any("image", lambda value: _is_image(event, value))
        and all(
            is_the(kind)
            for kind in ("container", "network", "volume", "daemon", "plugin", "service", "node",
                         "secret", "config")
        )
    )  # fmt: skip


def _is_action(action: str, wanted: str) -> bool:
    """`exec_create` stands for `exec_create: sh -c ...` too."""
    return action == wanted or action.partition(":")[0] == wanted


def _is_image(event: Event, wanted: str) -> bool:
    name = event.attributes.get("image", "") if event.type == "container" else ""
    candidates = (name,) if name else (event.id, event.attributes.get("name", ""))
    return event.type in ("container", "image") and any(
        candidate == wanted or candidate.rpartition(":")[0] == wanted for candidate in candidates
    )


def event_json(event: Event) -> dict[str, object]:
    document: dict[str, object] = {}
    if event.type in ("container", "image"):
        document["status"] = event.action
        document["id"] = event.id
    if event.type == "container":
        document["from"] = event.attributes.get("image", "")
    return document | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time // 1_000_000_000,
        "timeNano": event.time,
    }


async def auth(request: Request, engine: Engine) -> web.Response:
    """`docker login` asks here whether a registry takes the credentials; it keeps them itself."""
    fields = Fields(await request.document())
    credentials = Credentials(
        username=fields.text("username"),
        password=fields.text("password"),
        identity_token=fields.text("identitytoken"),
    )
    with request.until_gone():
        await engine.images.log_in(fields.text("serveraddress"), credentials)
    return reply(200, {"IdentityToken": "", "Status": "Login Succeeded"})


async def disk_usage(request: Request, engine: Engine) -> web.Response:
    """`type` chooses parts; what is not asked for is left out."""
    asked = request.query.texts("type")
    for kind in asked:
        if kind not in ("container", "image", "volume", "build-cache"):
            raise InvalidRequest(f"unknown object type: {kind}")
    document: dict[str, object] = {}
    usage = engine.containers.usage()
    if not asked or "image" in asked:
        document["LayersSize"] = engine.images.disk_usage()
        document["Images"] = [
            {
                **summary_json(image),
                "Containers": usage.images[image.id],
                "SharedSize": 0,
            }
            for image in engine.images.list()
        ]
    if not asked or "container" in asked:
        now = time.time_ns()
        document["Containers"] = [
            container_summary(record, image=record.config.image, now=now)
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
        ]
    if not asked or "build-cache" in asked:
        document["BuildCache"] = [holding_json(one) for one in await engine.builder.holdings()]
    return reply(200, document)


async def plugins(request: Request, engine: Engine) -> web.Response:
    return reply(200, [])


async def no_swarm(request: Request, engine: Engine) -> web.Response:
    raise Unavailable(
        'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to '
        "connect this node to swarm and try again."
    )


async def no_swarm_to_join(request: Request, engine: Engine) -> web.Response:
    raise Unsupported("cannot set up a swarm: this engine works on one machine")


async def no_swarm_to_leave(request: Request, engine: Engine) -> web.Response:
    raise Unavailable("This node is not part of a swarm")
