"""Builds every part of the engine, wires them, serves, and takes them down in reverse.

Containers don't notice: they live with their shims, and the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import resource
import signal
import stat
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from engine import VERSION
from engine.api.app import Server
from engine.api.parts import Engine
from engine.builder.build import Builder
from engine.claims import claim
from engine.containers.log_options import check_log
from engine.containers.model import LogConfig
from engine.containers.operations import Containers
from engine.events import EventLog
from engine.images.operations import Images
from engine.networks.operations import Networks
from engine.records import read_record, remove_torn, write_record
from engine.registry.client import RegistryClient
from engine.revisions import Revisions
from engine.runtime.launch import Spawner
from engine.settings import Settings, UnixAddress
from engine.volumes.operations import Volumes

log = logging.getLogger(__name__)

# In the order in which they can be removed.
OWN_FOLDERS = (
    *("images/blobs/sha256", "images/blobs", "images/layers", "images/empty", "images/tmp"),
    *("builder/tmp", "builder/caches", "builder/contexts", "builder"),
    *("images", "networks", "volumes", "containers", "revisions", ""),
)
COLLECT_AFTER = 10_000  # new objects
ID = "engine-id.json"  # in the data root
RECORD = "engine.json"  # in the exec root, for `pyengine status` and `stop`


async def run(settings: Settings, *, ready: int | None, after_crash: Sequence[str] = ()) -> None:
    """Serve until SIGTERM or SIGINT. One byte goes to the descriptor `ready` once it serves;
    it is closed in any case. From then on the command `after_crash` is run should this process be
    killed. Raises EngineError where it can't start."""
    os.umask(0o077)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, log_tasks)
    try:
        with ExitStack() as folders:
            claim_folders(settings, folders)
            check_log(LogConfig(settings.containers.log_driver, settings.containers.log_options))
            async with AsyncExitStack() as parts:
                # First of all: it is to be forked before there is any thread.
                spawner = await Spawner.start()
                parts.push_async_callback(spawner.close)
                server = await build(settings, spawner, parts)
                raise_open_files()
                await server.listen(settings.hosts)
                parts.push_async_callback(server.close)
                write_record(settings.exec_root / RECORD, describe(settings))
                log.info("pyengine %s serves %s", VERSION, settings.data_root)
                collect_seldom()
                if after_crash:
                    await spawner.run_after_crash(after_crash)
                tell_ready(ready)
                ready = None
                await stopping.wait()
                log.info("stopping; running containers go on")
    finally:
        if ready is not None:
            os.close(ready)


def collect_seldom() -> None:
    """What is here now stays to the end, modules first: no search for cycles need walk it. A
    container's life leaves few cycles among the thousands of objects that come and go by
    themselves."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)


def raise_open_files() -> None:
    """As many connections as may be. After the spawner: containers keep the limit that we got."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def build(settings: Settings, spawner: Spawner, parts: AsyncExitStack) -> Server:
    """Everything but the sockets; what is to be undone is pushed onto `parts`."""
    root = settings.data_root
    sockets = [host.path.parent for host in settings.hosts if isinstance(host, UnixAddress)]
    tag = hashlib.sha256(str(root).encode()).hexdigest()
    events = EventLog()
    parts.callback(events.close)
    volumes = await Volumes.open(root / "volumes")
    images = await Images.open(
        root / "images",
        private=(root, settings.exec_root, *sockets),
        client=RegistryClient(settings.registries, settings.proxies),
    )
    networks = await Networks.open(root / "networks", name=tag[:8], defaults=settings.networks)
    # Without containers the daemon leaves nothing behind it; with some, what they live on.
    containers: Containers | None = None

    async def close_networks() -> None:
        left = containers is None or bool(containers.list())
        await images.close(containers_left=left)
        if not left:
            await networks.retire()
        await networks.close()

    parts.push_async_callback(close_networks)
    containers = await Containers.open(
        root,
        settings.exec_root,
        spawner=spawner,
        images=images,
        volumes=volumes,
        networks=networks,
        events=events,
        defaults=settings.containers,
    )
    parts.push_async_callback(containers.close)
    builder = await Builder.open(
        root / "builder",
        images=images,
        containers=containers,
        events=events,
        limit=settings.build_cache,
        proxies=settings.proxies,
    )
    parts.push_async_callback(builder.close)
    engine = Engine(
        id=engine_id(root),
        settings=settings,
        events=events,
        containers=containers,
        images=images,
        volumes=volumes,
        networks=networks,
        builder=builder,
        revisions=await Revisions.open(root / "revisions"),
    )
    return Server(engine)


def engine_id(root: Path) -> str:
    """Random, and kept with what it is the engine of."""
    path = root / ID
    if not path.exists():
        write_record(path, str(uuid.uuid4()))
    return str(read_record(path))


def claim_folders(settings: Settings, undo: ExitStack) -> None:
    """Make the two folders ours alone, until `undo` gives them back and removes what is empty."""
    for folder, mode in ((settings.data_root, 0o710), (settings.exec_root, 0o711)):
        undo.callback(os.close, claim(folder, mode))
    undo.callback(clear_folders, settings)


def clear_folders(settings: Settings) -> None:
    """At the end: our own record goes; folders only if nothing is in them."""
    (settings.exec_root / RECORD).unlink(missing_ok=True)
    remove_torn(settings.exec_root)
    left = any((settings.exec_root / "containers").glob("*"))
    if not left:
        remove_own_log(settings.exec_root)
    for folder in (settings.exec_root, settings.data_root):
        remove_empty(folder)
    with contextlib.suppress(OSError):  # it is gone, or somebody's mount
        if os.listdir(settings.data_root) == [ID]:
            (settings.data_root / ID).unlink()
            settings.data_root.rmdir()


def remove_own_log(folder: Path) -> None:
    """The log that whoever started us opened as our stderr, if it lies in our own folder."""
    with contextlib.suppress(OSError):
        path = Path(os.readlink("/proc/self/fd/2"))
        if path.parent == folder and stat.S_ISREG(os.fstat(2).st_mode):
            path.unlink()


def remove_empty(folder: Path) -> None:
    """Remove `folder` and our own in it, where they are empty. Never what is inside of volumes,
    containers and layers: an empty folder there is somebody's data."""
    for name in OWN_FOLDERS:
        with contextlib.suppress(OSError):  # it isn't there, or something is in it: it stays
            os.rmdir(folder / name)


def describe(settings: Settings) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "version": VERSION,
        "hosts": [str(host) for host in settings.hosts],
        "data_root": str(settings.data_root),
        "started": time.time(),
    }


def log_tasks() -> None:
    """What the daemon is at, for the day when it seems to hang: where each task waits."""
    for task in asyncio.all_tasks():
        places: list[str] = []
        waiting: object = task.get_coro()
        while (frame := getattr(waiting, "cr_frame", None)) is not None:
            places.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}")
            waiting = getattr(waiting, "cr_await", None)
        log.warning("%s waits at\n  %s", task.get_name(), "\n  ".join(places))


def tell_ready(descriptor: int | None) -> None:
    if descriptor is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, b"\n")
        os.close(descriptor)
