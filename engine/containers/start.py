"""From a record to a running process: what it needs is gathered, launched, joined, let go.

A failure at any point undoes everything: no address, port, process or mount stays.
"""

import asyncio
import contextlib
import logging
import os
import shutil
from collections.abc import Coroutine
from contextlib import AsyncExitStack

from engine.containers import (
    handover,
    launch_request,
    legacy_links,
    mount_sources,
    network_files,
    places,
    spec,
)
from engine.containers.container import Container
from engine.containers.machine import host_devices
from engine.containers.model import Record
from engine.containers.parts import Parts
from engine.errors import EngineError, Failure, InvalidRequest
from engine.kernel.libc import told
from engine.networks.model import Standing
from engine.runtime.handle import Lost, Shim, StartFailed
from engine.runtime.payload import NO_USER

log = logging.getLogger(__name__)

NOT_STARTED = 128  # Docker's exit code for a start that failed before the command


async def launch(parts: Parts, container: Container) -> Shim:
    """The running container's shim; `container.record` then has its endpoints and ports.

    Raises EngineError, and StartFailed for what the command itself is to blame for."""
    try:
        return await _launch(parts, container, by_script=not container.is_odd)
    except _Unfit as unfit:
        log.info("container %s is started anew: %s", container.id, unfit)
        container.is_odd = True
        return await _launch(parts, container, by_script=False)


class _Unfit(Failure):
    """What was prepared was of no use, or ended before it was this container's."""


async def _launch(parts: Parts, container: Container, *, by_script: bool) -> Shim:
    record = container.record
    place = places.network_place(parts, record)
    pid_path = places.pid_namespace(parts, record)
    ipc_pid = places.ipc_pid_of(parts, record)
    lowers = parts.images.root_layers(parts.images.resolve(record.image_id))
    async with AsyncExitStack() as undo:
        undo.push_async_callback(parts.volumes.unmount_for, record.id)
        await parts.volumes.mount_for(record.id, mount_sources.volume_names(record))
        mounts = mount_sources.resolve_mounts(parts, record)
        undo.push_async_callback(parts.networks.leave, record.id)
        legacy_links.demand_running(legacy_links.links_of(parts, record))
        record = places.allocate(parts, record, is_own=place.is_own)
        ahead = launch_request.asked_ahead(parts, container, record)
        request = ahead or launch_request.request_of(
            parts,
            record,
            place,
            spec.Surroundings(
                mounts,
                place.path,
                pid_path,
                host_devices(record.host),
                linked=tuple(legacy_links.variables(legacy_links.links_of(parts, record))),
                ipc_pid=ipc_pid,
                user_pid=places.user_pid(parts, record),
            ),
            lowers,
        )
        undo.callback(clear_exec_dir, request.exec_dir)
        if ahead is None:
            # Before its script, which finds them there.
            network_files.write_files(parts, record, place)
        shim = await parts.spawner.prepare(request, by_script=by_script)
        undo.push_async_callback(shim.abandon)
        joining = None
        if shim.is_told:
            joining = await _begin(_join(parts, record, shim))
            undo.push_async_callback(_settle, joining)
        if ahead is not None:
            network_files.write_files(parts, record, place)
        # Where a crash may come now, adoption finds in state.json what the process is to have.
        parts.store.save_state(record)
        undo.callback(parts.save, container.record)
        launching = await _begin(parts.spawner.launch(shim, request))
        undo.push_async_callback(_settle, launching)
        if joining is None:
            # Later: the first process has more to do than the kernel has with its links.
            joining = await _begin(_join(parts, record, shim))
            undo.push_async_callback(_settle, joining)
        try:
            await launching
            await joining
            await _connect_clients(container, shim)
            await shim.go()
        except Lost as error:
            if shim.is_unfit or (shim.is_spare and not shim.was_told):
                raise _Unfit(str(error)) from error
            raise
        undo.pop_all()
    container.record = record
    return shim


async def _begin(part: Coroutine[object, object, None]) -> asyncio.Task[None]:
    """It goes on while we do."""
    task = asyncio.create_task(part)
    await asyncio.sleep(0)  # that is how it begins
    return task


async def _settle(part: asyncio.Task[None]) -> None:
    """Of a start that is undone: nothing of it goes on. What was refused is known."""
    with contextlib.suppress(EngineError, OSError):
        await part


async def _join(parts: Parts, record: Record, shim: Shim) -> None:
    if shim.sockets is None:
        return
    if (standing := handover.first_standing(record.config)) is not Standing.READY:
        await parts.networks.regard(record.id, standing)
    await parts.networks.join(
        record.id,
        places.endpoints_of(record),
        shim.sockets,
        record.ports,
        dns=places.dns_options(parts, record.host),
    )


def clear_exec_dir(exec_dir: str) -> None:
    """The shim's folder goes once its container's end is in our own record."""
    try:
        os.rmdir(exec_dir)  # usually it is empty
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(exec_dir)


async def _connect_clients(container: Container, shim: Shim) -> None:
    """Those who attached before the start: before the first instruction, so nothing is lost."""
    container.run_ended = asyncio.Event()
    for client in tuple(container.waiting_clients):
        reader, writer = await shim.attach(
            stdin=client.stdin, stdout=client.stdout, stderr=client.stderr
        )
        client.connect(reader, writer, container.run_ended)
    container.waiting_clients.clear()


def start_error(error: Exception) -> tuple[int, EngineError]:
    """(exit code to record, refusal for the client)"""
    match error:
        case StartFailed():
            # The CLI makes 126 and 127 out of the text; Docker's status for both is 400.
            kind = InvalidRequest if error.exit_code in (126, 127, NO_USER) else Failure
            code = NOT_STARTED if error.exit_code == NO_USER else error.exit_code
            return code, kind(str(error))
        case EngineError():
            return NOT_STARTED, error
        case OSError():
            return NOT_STARTED, Failure(f"cannot start container: {told(error)}")
        case _:
            raise error
