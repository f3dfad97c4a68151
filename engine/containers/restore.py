"""A new daemon: reads the records, adopts what runs, clears away what a crash left half done."""

import asyncio
import logging
from pathlib import Path

from engine.containers import start, supervise
from engine.containers.container import Container
from engine.containers.known import Known
from engine.containers.parts import Parts
from engine.containers.startup import Startup
from engine.errors import EngineError
from engine.runtime.handle import Shim

log = logging.getLogger(__name__)


async def restore(parts: Parts, known: Known) -> None:
    for folder in (parts.store.root, parts.exec_root):
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    records, leftovers = parts.store.load()
    for record in records:
        known.add(Container(record))
    for container_id, volumes in leftovers:
        await _clear_leftover(parts, container_id, volumes)
    async with asyncio.TaskGroup() as group:
        for container in known.all():
            group.create_task(_adopt(parts, container))
        for path in parts.exec_root.iterdir():
            if path.name not in known.containers:
                group.create_task(_end_stray(path))
    await parts.networks.settle()
    await parts.volumes.settle()
    Startup(parts).begin(known.all())


async def _adopt(parts: Parts, container: Container) -> None:
    try:
        await supervise.adopt(parts, container)
    except (EngineError, OSError) as error:
        # One container's trouble must not keep the others down.
        log.error("cannot take over container %s: %s", container.id, error)


async def _clear_leftover(parts: Parts, container_id: str, volumes: tuple[str, ...]) -> None:
    """Of a create or a remove that a crash interrupted."""
    log.info("clearing away container %s, which never was or no longer is", container_id)
    for volume in volumes:
        try:
            await parts.volumes.remove(volume, force=True, users=parts.volume_users)
        except EngineError as error:
            log.warning("volume %s stays: %s", volume, error)
    parts.store.clear(container_id)


async def _end_stray(exec_dir: Path) -> None:
    """A process without a record: its start never came to its end."""
    try:
        found = await Shim.adopt(str(exec_dir))
        if isinstance(found, Shim):
            await found.abandon()
        start.clear_exec_dir(str(exec_dir))
    except (EngineError, OSError) as error:
        log.error("cannot clear away %s: %s", exec_dir, error)
