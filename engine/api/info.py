"""What the engine is: answers to ping, version and info."""

from __future__ import annotations

import asyncio
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from aiohttp import web

from engine import VERSION
from engine.api.answer import API_VERSION, COMMON_HEADERS, OLDEST_API_VERSION, reply
from engine.api.parts import Engine
from engine.api.registries import registries_json
from engine.api.request import Request
from engine.api.shown import Document
from engine.containers.log_options import DRIVERS
from engine.containers.model import RUNTIMES, Record, Status
from engine.proxies import shown_proxy

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
    os_version: str
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
        operating_system=_os_release("PRETTY_NAME") or "Linux",
        os_version=_os_release("VERSION_ID"),
        cpus=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        cgroup_version="2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        started=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    )


def _os_release(key: str) -> str:
    try:
        return platform.freedesktop_os_release().get(key, "")
    except OSError:
        return ""


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
    version = request.version
    document: Document = {
        "ID": engine.id,
        **_counts(engine.containers.list()),
        "Images": len(engine.images.list()),
        "Driver": "overlay2",
        "DriverStatus": [
            ["Backing Filesystem", backing_file_system(engine.settings.data_root)],
            ["Supports d_type", "true"],
            ["Using metacopy", "false"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "ipvlan", "macvlan", "null"],
            "Authorization": None,
            "Log": [driver for driver in DRIVERS if driver != "none"],
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
        "NGoroutines": len(asyncio.all_tasks()),  # what comes closest
        "SystemTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "LoggingDriver": engine.settings.containers.log_driver,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": here.cgroup_version,
        "NEventsListener": len(engine.events.subscriptions),
        "KernelVersion": here.kernel,
        "OperatingSystem": here.operating_system,
        "OSVersion": here.os_version,
        "OSType": "linux",
        "Architecture": here.machine,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": registries_json(engine.settings.registries, version),
        "NCPU": here.cpus,
        "MemTotal": here.memory,
        "GenericResources": None,
        "DockerRootDir": str(engine.settings.data_root),
        "HttpProxy": shown_proxy(engine.settings.proxies.http),
        "HttpsProxy": shown_proxy(engine.settings.proxies.https),
        "NoProxy": engine.settings.proxies.none_for,
        "Name": here.hostname,
        "Labels": engine.settings.labels,
        "ExperimentalBuild": False,
        "ServerVersion": VERSION,
        "Runtimes": {name: {"path": "pyengine"} for name in RUNTIMES},
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
        # Parts of Docker that the engine has no counterpart of.
        "ContainerdCommit": _no_commit(version),
        "RuncCommit": _no_commit(version),
        "InitCommit": {"ID": ""},
        "SecurityOptions": _security(engine),
        "CDISpecDirs": [],
        "Warnings": None,
    }
    if here.cgroup_version == "1":
        document["KernelMemoryTCP"] = True
    if version >= (1, 49):
        document["FirewallBackend"] = {"Driver": "nftables"}
    if version < (1, 50):
        document |= {"BridgeNfIptables": False, "BridgeNfIp6tables": False}
    if version < (1, 42):
        document["KernelMemory"] = False
    if version < (1, 25):
        document["SecurityOptions"] = ["seccomp"]
    return reply(200, document)


def _no_commit(version: tuple[int, int]) -> Document:
    return {"ID": "", **({"Expected": ""} if version < (1, 49) else {})}


@cache
def backing_file_system(folder: Path) -> str:
    """The type of the file system that `folder` lies on; of ext4, what Docker calls it."""
    found = max(
        (
            (fields[4], fields[fields.index("-") + 1])
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if folder.is_relative_to((fields := line.split())[4])
        ),
        key=lambda mount: len(mount[0]),
        default=("/", "unknown"),
    )
    return "extfs" if found[1].startswith("ext") else found[1]


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


def _security(engine: Engine) -> list[str]:
    found = ["name=seccomp,profile=builtin"]
    if engine.settings.containers.userns_remap:
        found.append("name=userns")
    # On cgroup v1 too: a group's own view of the tree is the default on both.
    return [*found, "name=cgroupns"]
