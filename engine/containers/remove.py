"""A container goes: its record first, so that its name is free, then all that it had."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from engine.containers import lifecycle, start
from engine.containers.container import Container
from engine.containers.lifecycle import Change
from engine.containers.parts import Parts
from engine.errors import EngineError, Failure
from engine.kernel.libc import told

log = logging.getLogger(__name__)


async def remove_container(parts: Parts, container: Container, *, volumes: bool) -> None:
    """Under the container's lock, when it is down. A crash in between is taken up by the next
    daemon: the status on disk says so."""
    lifecycle.demand(container.record, Change.REMOVE)
    container.is_being_removed = True
    record = container.record
    container.record = replace(record, state=lifecycle.changed(record.state, Change.REMOVE))
    own = [mount.name for mount in record.mounts if mount.type == "volume" and mount.anonymous]
    try:
        _intend(parts, record.id, own if volumes else [])
        parts.save(container.record)
        await parts.networks.leave(record.id)
        # Durably before volumes go, whatever disk they are on.
        await asyncio.to_thread(parts.store.forget, record.id, durable=bool(volumes and own))
        if volumes:
            await _remove_volumes(parts, container)
    except OSError as error:
        state = lifecycle.changed(container.record.state, Change.FAIL_TO_REMOVE)
        container.record = replace(container.record, state=state)
        container.is_being_removed = False
        raise Failure(f"cannot remove container {record.id}: {told(error)}") from error
    # Nobody waits for the rest, and a crash in it is the next daemon's: a folder of nobody.
    parts.tasks.start(_remove_files(parts, record.id), f"clearing {record.id}")
    container.is_gone = True
    parts.forget(container)
    for client in container.waiting_clients:
        client.never_connects()
    parts.publish(record, "destroy")
    # What `wait` answers is how it ended, not that it is going.
    container.record = record
    container.answer_waiters(("removed", "not-running", "next-exit"))
    container.run_ended.set()
    parts.wake_followers(record.id)
    log.debug("container %s removed", record.id)


def _intend(parts: Parts, container_id: str, volumes: Sequence[str]) -> None:
    try:
        parts.store.intend(container_id, volumes)
    except OSError as error:
        # A full disk must not keep a container from being removed.
        log.warning("a crash now would leave volumes of container %s: %s", container_id, error)


async def _remove_files(parts: Parts, container_id: str) -> None:
    await parts.spawner.give_up(container_id)
    await asyncio.to_thread(_clear, parts, container_id)


def _clear(parts: Parts, container_id: str) -> None:
    parts.store.clear(container_id)
    start.clear_exec_dir(parts.exec_dir(container_id))
    parts.prepare_folder()


async def _remove_volumes(parts: Parts, container: Container) -> None:
    def staying(volume: str) -> tuple[str, ...]:
        users = parts.volume_users(volume)
        return tuple(user for user in users if not parts.find(user).is_being_removed)

    for mount in container.record.mounts:
        if mount.type != "volume" or not mount.anonymous:
            continue
        try:
            await parts.volumes.remove(mount.name, force=True, users=staying)
        except EngineError as error:
            # Another container uses it too (volumes from): it stays, as in Docker.
            log.info("volume %s stays: %s", mount.name, error)
        else:
            parts.events.publish("volume", "destroy", mount.name, {"driver": mount.driver})
