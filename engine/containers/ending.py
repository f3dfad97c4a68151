"""A container is told to end: by its stop signal, by a kill, or because it is to be removed."""

import asyncio
import logging
from dataclasses import replace

from engine.containers import checks, handover, lifecycle, supervise
from engine.containers.container import Container
from engine.containers.lifecycle import Change
from engine.containers.model import Status
from engine.containers.parts import Parts
from engine.errors import Conflict, Failure
from engine.networks.model import Standing
from engine.runtime.handle import Lost, Shim

log = logging.getLogger(__name__)

DEFAULT_STOP_TIMEOUT = 10  # seconds
# After SIGKILL a process is gone at once, unless the kernel itself hangs (a dead disk).
KILL_TIMEOUT = 20.0


async def stop(parts: Parts, container: Container, timeout: int | None, number: int) -> bool:
    """`timeout` in seconds, -1 = for ever, None = the container's own. False if it was down."""
    if await _give_up(parts, container):
        parts.publish(container.record, "stop")
        return True
    shim = container.shim
    if shim is None or not container.record.state.status.is_up:
        return False
    _mark_stopped(parts, container)
    ended = container.run_ended
    # Before it stops to answer, others take over what they share with it.
    await parts.networks.regard(container.id, Standing.UNFIT)
    await handover.drain(parts, container)
    await _signal(parts, container, shim, number)
    if container.record.state.status is Status.PAUSED:
        # A frozen process gets the signal once it runs again.
        await _thaw(parts, container)
    if timeout is None:
        own = container.record.config.stop_timeout
        timeout = DEFAULT_STOP_TIMEOUT if own is None else own
    try:
        async with asyncio.timeout(None if timeout < 0 else timeout):
            await ended.wait()
    except TimeoutError:
        log.info("container %s did not stop within %d s: killing it", container.id, timeout)
        await _kill_and_wait(parts, container, shim, ended)
    parts.publish(container.record, "stop")
    return True


def _mark_stopped(parts: Parts, container: Container) -> None:
    record = container.record
    container.record = replace(record, state=replace(record.state, stopped_by_user=True))
    parts.save(container.record)


async def _give_up(parts: Parts, container: Container) -> bool:
    """Whether it was waiting for a restart, and now isn't."""
    async with container.held():
        if container.record.state.status is not Status.RESTARTING:
            return False
        supervise.give_up_restarting(parts, container)
        return True


async def _signal(parts: Parts, container: Container, shim: Shim, number: int) -> None:
    try:
        await shim.kill(number)
    except Lost:
        return  # its exit is being told
    parts.publish(container.record, "kill", signal=str(number))


async def _thaw(parts: Parts, container: Container) -> None:
    async with container.held():
        if container.shim is not None and container.record.state.status is Status.PAUSED:
            await container.shim.resume()
            change(parts, container, Change.UNPAUSE)


def change(parts: Parts, container: Container, done: Change) -> None:
    """For the changes that touch the status alone. Under the container's lock."""
    state = lifecycle.changed(container.record.state, done)
    container.record = replace(container.record, state=state)
    parts.save(container.record)


async def _kill_and_wait(
    parts: Parts, container: Container, shim: Shim, ended: asyncio.Event
) -> None:
    await _signal(parts, container, shim, checks.parse_signal("KILL"))
    if container.record.state.status is Status.PAUSED:
        await _thaw(parts, container)
    try:
        async with asyncio.timeout(KILL_TIMEOUT):
            await ended.wait()
    except TimeoutError:
        raise Failure(
            f"cannot stop container {container.id}: tried to kill it, but did not receive "
            "an exit event"
        ) from None


async def kill(parts: Parts, container: Container, number: int) -> None:
    is_final = number == checks.parse_signal("KILL")
    if is_final and await _give_up(parts, container):
        return
    shim = container.shim
    if shim is None or not container.record.state.status.is_up:
        raise Conflict(f"container {container.id} is not running")
    stop_signal = container.record.config.stop_signal or "TERM"
    is_to_stop = is_final or number == checks.parse_signal(stop_signal)
    if is_to_stop:
        _mark_stopped(parts, container)
    if is_final:
        await _kill_and_wait(parts, container, shim, container.run_ended)
        return
    await _signal(parts, container, shim, number)
    if is_to_stop and container.record.state.status is Status.PAUSED:
        await _thaw(parts, container)  # as for a stop; Docker does so for most signals


async def end_for_removal(parts: Parts, container: Container) -> None:
    if container.record.state.status is Status.RESTARTING and await _give_up(parts, container):
        return
    shim = container.shim
    if shim is not None and container.record.state.status.is_up:
        _mark_stopped(parts, container)
        container.is_ended_for_removal = True
        try:
            await _kill_and_wait(parts, container, shim, container.run_ended)
        finally:
            container.is_ended_for_removal = False
