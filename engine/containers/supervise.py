"""What happens to a container on its own: exits, restarts, health, and a new daemon.

Every change of status happens under the container's lock, is on disk before it is told, and is
told in this order: record, events, waiters, followers.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, replace

from engine.containers import (
    execs,
    handover,
    health,
    lifecycle,
    mount_sources,
    places,
    restart,
    start,
)
from engine.containers.container import Container
from engine.containers.lifecycle import Change
from engine.containers.model import Attachment, HealthState, Record, State, Status
from engine.containers.parts import Parts
from engine.containers.remove import remove_container
from engine.errors import EngineError, NotFound
from engine.networks.model import Standing
from engine.runtime.clock import uptime
from engine.runtime.handle import Shim
from engine.runtime.remains import ExitStatus

log = logging.getLogger(__name__)

SYNC_AFTER = 1.0  # seconds
STANDINGS = {
    "starting": Standing.STARTING,
    "healthy": Standing.READY,
    "unhealthy": Standing.UNFIT,
}
LOST = 255  # exit code of a container whose end nobody saw: Docker's


# --- start ------------------------------------------------------------------------------------


async def start_container(parts: Parts, container: Container) -> None:
    """Under the container's lock, from a status that allows it. Raises EngineError and then
    leaves the reason in the state."""
    await parts.turns.take()
    lifecycle.demand(container.record, Change.START)
    try:
        shim = await start.launch(parts, container)
    except Exception as error:
        exit_code, refusal = start.start_error(error)
        _record_failure(parts, container, exit_code, str(refusal))
        raise refusal from error
    _began(parts, container, shim)
    handover.open_later(parts, container, shim)
    record = container.record
    parts.save(record)
    for mount in record.mounts:
        if mount.type == "volume":
            parts.events.publish(
                "volume",
                "mount",
                mount.name,
                {
                    "container": record.id,
                    "destination": mount.destination,
                    "driver": mount.driver,
                    "propagation": mount.propagation,
                    "read/write": "false" if mount.read_only else "true",
                },
            )
    for attachment in record.attachments:
        network_event(parts, record, "connect", attachment.network_id)
    parts.publish(record, "start")
    asyncio.get_running_loop().call_later(SYNC_AFTER, _sync, parts, container, shim)
    log.debug("container %s started: pid %d", record.id, shim.pid)


def _sync(parts: Parts, container: Container, shim: Shim) -> None:
    """So that a policy like `always` holds after a power loss. Nobody waits for it, and most
    short runs end before: their exit is written durably anyway."""
    if container.shim is shim and not parts.tasks.is_closing:
        parts.tasks.watch(
            asyncio.to_thread(_sync_now, parts, container.id), f"syncing {container.id}"
        )


def _sync_now(parts: Parts, container_id: str) -> None:
    parts.store.sync_state(container_id)
    parts.prepare_folder()


def _began(parts: Parts, container: Container, shim: Shim) -> None:
    record = container.record
    probe = health.probe_of(record.config)
    first = None
    if probe is not None:
        before = record.state.health
        first = HealthState("starting", log=before.log if before is not None else ())
    state = _started(record.state, shim, first)
    container.record = replace(record, state=state)
    attend(parts, container, shim)


def _started(state: State, shim: Shim, first: HealthState | None) -> State:
    return lifecycle.started(
        state, pid=shim.pid, at=shim.started_at, clock=shim.started_clock, health=first
    )


def attend(parts: Parts, container: Container, shim: Shim) -> None:
    """From now on its exit is seen and its health is probed."""
    container.shim = shim
    shim.when_out_of_memory = lambda: _ran_out_of_memory(parts, container, shim)
    parts.tasks.watch(_await_exit(parts, container, shim), f"supervising {container.id}")
    watch_health(parts, container)


def _ran_out_of_memory(parts: Parts, container: Container, shim: Shim) -> None:
    """The kernel killed one of its processes; the container may well go on."""
    if container.shim is not shim:
        return
    record = container.record
    container.record = replace(record, state=replace(record.state, oom_killed=True))
    parts.save(container.record)
    parts.publish(record, "oom")


def _record_failure(parts: Parts, container: Container, exit_code: int, message: str) -> None:
    state = lifecycle.failed_to_start(container.record.state, exit_code=exit_code, error=message)
    container.record = replace(container.record, state=state)
    for client in container.waiting_clients:
        client.never_connects()
    container.waiting_clients.clear()
    parts.save(container.record)
    if container.record.host.auto_remove:
        begin_removal(parts, container)


def network_event(parts: Parts, record: Record, action: str, network_id: str) -> None:
    if not network_id:
        return
    try:
        network = parts.networks.get(network_id)
    except NotFound:
        return
    attributes = {"container": record.id, "name": network.name, "type": network.driver}
    parts.events.publish("network", action, network_id, attributes)


# --- exit -------------------------------------------------------------------------------------


async def _await_exit(parts: Parts, container: Container, shim: Shim) -> None:
    # Shielded: the future is the shim's, and others wait for it too.
    status = await asyncio.shield(shim.exited)
    await parts.tasks.finish(_record_exit(parts, container, shim, status))


async def _record_exit(parts: Parts, container: Container, shim: Shim, status: ExitStatus) -> None:
    async with container.lock:
        if container.shim is not shim:
            return
        is_saved = await settle_exit(parts, container, status)
        container.shim = None
        container.run_ended.set()
        await shim.release(record=not is_saved)
        if is_saved:
            start.clear_exec_dir(parts.exec_dir(container.id))


async def settle_exit(parts: Parts, container: Container, status: ExitStatus) -> bool:
    """The container is down: in the record, on disk, in events, for those who wait. False where
    the disk did not take it: then the shim's own record of the end is needed."""
    stop_watching(container)
    await execs.settle_all(container)
    await parts.networks.leave(container.id)
    await parts.volumes.unmount_for(container.id)
    record = container.record
    state = record.state
    again = None
    if not parts.tasks.is_closing and not container.is_being_restarted:
        again = restart.after_exit(
            record.host.restart_policy,
            container.backoff,
            exit_code=status.code,
            stopped_by_user=state.stopped_by_user,
            ran_for=status.ran_for / 1e9,
        )
    ended = lifecycle.exited(
        state,
        exit_code=status.code,
        at=status.finished_at,
        oom_killed=status.oom_killed,
        restarting=again is not None,
    )
    networks = [attachment.network_id for attachment in record.attachments]
    container.record = replace(_disconnected(record), state=ended)
    is_saved = await save_durably(parts, container)
    if status.oom_killed and not state.oom_killed:
        parts.publish(record, "oom")
    for network_id in networks:
        network_event(parts, record, "disconnect", network_id)
    for mount in record.mounts:
        if mount.type == "volume":
            attributes = {"container": record.id, "driver": mount.driver}
            parts.events.publish("volume", "unmount", mount.name, attributes)
    # Last, as in Docker: who waits for it finds the networks and volumes let go.
    ran_for = status.ran_for // 1_000_000_000
    parts.publish(record, "die", exitCode=str(status.code), execDuration=str(ran_for))
    log.debug("container %s exited: %d", record.id, status.code)
    parts.wake_followers(record.id)
    # Also of one that will be started again: who waited wanted to see it end once, as in Docker.
    container.answer_waiters(("next-exit", "not-running"))
    if again is not None:
        _restart_later(parts, container, again)
        return is_saved
    if record.host.auto_remove and not container.is_being_restarted:
        begin_removal(parts, container)
    return is_saved


def _left(attachment: Attachment) -> Attachment:
    """It gets its addresses again, if nobody else has them by then."""
    endpoint = attachment.endpoint
    if endpoint is None:
        return attachment
    addresses = tuple(filter(None, (endpoint.ipv4_address, endpoint.ipv6_address)))
    return replace(attachment, endpoint=None, addresses=addresses)


def _disconnected(record: Record) -> Record:
    attachments = tuple(_left(attachment) for attachment in record.attachments)
    return replace(record, attachments=attachments, ports=())


async def save_durably(parts: Parts, container: Container) -> bool:
    """A full disk must not keep a container from ending: it is said, and the daemon goes on."""
    record = container.record
    try:
        parts.store.save_state(record)
        if not container.is_ended_for_removal:
            await asyncio.to_thread(parts.store.sync_state, record.id)
    except OSError as error:
        log.error("cannot save the state of container %s: %s", record.id, error)
        return False
    return True


def begin_removal(parts: Parts, container: Container) -> None:
    """--rm: by the daemon, with the anonymous volumes."""
    parts.tasks.start(_remove_alone(parts, container), f"removing {container.id}")


async def _remove_alone(parts: Parts, container: Container) -> None:
    try:
        async with container.lock:
            if not container.is_being_removed and not container.record.state.status.is_up:
                await remove_container(parts, container, volumes=True)
    except EngineError as error:
        log.error("cannot remove container %s: %s", container.id, error)


# --- restart ----------------------------------------------------------------------------------


def _restart_later(parts: Parts, container: Container, backoff: restart.Backoff) -> None:
    container.backoff = backoff
    container.restart_task = parts.tasks.watch(
        _restart(parts, container, backoff.delay), f"restarting {container.id}"
    )


async def _restart(parts: Parts, container: Container, delay: float) -> None:
    await asyncio.sleep(delay)
    await parts.tasks.finish(_restart_now(parts, container))


async def _restart_now(parts: Parts, container: Container) -> None:
    async with container.lock:
        if container.record.state.status is not Status.RESTARTING:
            return
        container.restart_task = None
        container.record = replace(
            container.record, restart_count=container.record.restart_count + 1
        )
        try:
            await start_container(parts, container)
        except EngineError as error:
            log.error("cannot restart container %s: %s", container.id, error)
            container.answer_waiters(("not-running",))
            parts.wake_followers(container.id)


def give_up_restarting(parts: Parts, container: Container) -> None:
    """A stop or kill of a container that waits for its next start. Under its lock."""
    if container.restart_task is not None:
        container.restart_task.cancel()
        container.restart_task = None
    state = lifecycle.changed(container.record.state, Change.GIVE_UP)
    container.record = replace(container.record, state=replace(state, stopped_by_user=True))
    parts.save(container.record)
    container.answer_waiters(("not-running",))
    parts.wake_followers(container.id)


# --- health -----------------------------------------------------------------------------------


def watch_health(parts: Parts, container: Container) -> None:
    state = container.record.state
    probe = health.probe_of(container.record.config)
    if probe is None or state.health is None:
        return

    def report(found: HealthState) -> None:
        _report_health(parts, container, found)

    async def run(command: tuple[str, ...], timeout: float) -> tuple[int, str]:
        return await execs.probe(parts, container, command, timeout)

    loop = health.watch_health(
        probe,
        age=lambda: uptime() - state.started_clock,
        health=state.health,
        run=run,
        report=report,
    )
    container.health_task = parts.tasks.watch(loop, f"health check of {container.id}")


def _report_health(parts: Parts, container: Container, found: HealthState) -> None:
    record = container.record
    before = record.state.health
    if before is None or not record.state.status.is_up:
        return
    container.record = replace(record, state=replace(record.state, health=found))
    parts.save(container.record)
    if found.status != before.status:

        async def tell() -> None:
            # Whoever hears of it may count on it: nobody is led to an unhealthy one any more.
            await parts.networks.regard(record.id, STANDINGS[found.status])
            parts.publish(record, f"health_status: {found.status}")

        parts.tasks.watch(tell(), f"spreading the work of {record.id}")


def stop_watching(container: Container) -> None:
    if container.health_task is not None:
        container.health_task.cancel()
        container.health_task = None


# --- a new daemon -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What adoption learned of one container: it lives, or how it ended."""

    shim: Shim | None = None
    exit: ExitStatus | None = None


async def adopt(parts: Parts, container: Container) -> None:
    """What a container became while no daemon looked. Under no lock: nobody else is there yet."""
    record = container.record
    found = await Shim.adopt(parts.exec_dir(record.id))
    if record.state.status is Status.REMOVING or record.state.status is Status.DEAD:
        if isinstance(found, Shim):
            await found.abandon()
        volumes = record.host.auto_remove or bool(parts.store.intended(record.id))
        await remove_container(parts, container, volumes=volumes)
        return
    if isinstance(found, Shim):
        await _take_over(parts, container, found)
    elif isinstance(found, ExitStatus):
        await _catch_up(parts, container, found)
    elif record.state.status.is_up:
        now = ExitStatus(LOST, None, False, time.time_ns())
        await _catch_up(parts, container, now)
    elif record.state.status is Status.RESTARTING or _has_endpoints(record):
        state = record.state
        if state.status is Status.RESTARTING:
            state = lifecycle.changed(state, Change.GIVE_UP)
        container.record = replace(_disconnected(record), state=state)


async def rename_endpoints(parts: Parts, container: Container, name: str) -> None:
    """The neighbours in its networks find it by that name from now on."""
    renamed = replace(container.record, name=name)
    names = {each.network_id: places.dns_names(renamed, each) for each in renamed.attachments}
    found = await parts.networks.rename(container.id, name, names)
    endpoints = {endpoint.network_id: endpoint for endpoint in found}
    attachments = tuple(
        replace(each, endpoint=endpoint, dns_names=endpoint.dns_names)
        if (endpoint := endpoints.get(each.network_id))
        else each
        for each in renamed.attachments
    )
    container.record = replace(renamed, attachments=attachments)


def _has_endpoints(record: Record) -> bool:
    return any(attachment.endpoint is not None for attachment in record.attachments)


async def _take_over(parts: Parts, container: Container, shim: Shim) -> None:
    record = container.record
    state = record.state
    if not state.status.is_up:
        # The daemon died between the start and the record of it.
        first = HealthState("starting") if health.probe_of(record.config) is not None else None
        if state.status is Status.RESTARTING:
            state = lifecycle.changed(state, Change.GIVE_UP)
        state = _started(state, shim, first)
    container.record = replace(record, state=replace(state, pid=shim.pid), boot_id=parts.boot_id)
    parts.volumes.still_mounted_for(record.id, mount_sources.volume_names(record))
    if places.has_own_network(record.host):
        endpoints = [
            attachment.endpoint
            for attachment in record.attachments
            if attachment.endpoint is not None
        ]
        try:
            await parts.networks.adopt(
                record.id,
                endpoints,
                await shim.network_sockets(),
                record.ports,
                dns=places.dns_options(parts, record.host),
            )
            if state.health is not None:
                await parts.networks.regard(record.id, STANDINGS[state.health.status])
            # It had its new name already, but not for its neighbours, when the daemon died.
            if any(endpoint.container_name != record.name for endpoint in endpoints):
                await rename_endpoints(parts, container, record.name)
        except (EngineError, OSError) as error:
            # It runs, and must be seen to end.
            log.error("cannot take over the network of container %s: %s", record.id, error)
    parts.save(container.record)
    attend(parts, container, shim)


async def _catch_up(parts: Parts, container: Container, status: ExitStatus) -> None:
    """It ended while no daemon was there; the restart policy goes on from here."""
    record = container.record
    if not record.state.status.is_up:
        if record.state.finished_at == status.finished_at:
            start.clear_exec_dir(parts.exec_dir(container.id))
            return
        # It was started, and the daemon died before the record of it.
        state = State(Status.RUNNING, started_at=status.finished_at)
        container.record = replace(record, state=state)
    container.is_being_restarted = True  # whether it starts again is decided by `resume`
    try:
        if await settle_exit(parts, container, status):
            start.clear_exec_dir(parts.exec_dir(container.id))
    finally:
        container.is_being_restarted = False


def comes_back(parts: Parts, container: Container) -> bool:
    """After all have been adopted: whether its policy says so. --rm is caught up."""
    record = container.record
    state = record.state
    if state.status.is_up or container.is_being_removed:
        return False
    if restart.starts_with_daemon(
        record.host.restart_policy, state, restart_count=record.restart_count
    ):
        return True
    if record.host.auto_remove and state.status is Status.EXITED:
        begin_removal(parts, container)
    return False


async def start_with_daemon(parts: Parts, container: Container) -> None:
    async with container.lock:
        if container.record.state.status.is_up or container.is_being_removed:
            return
        try:
            await start_container(parts, container)
        except EngineError as error:
            log.error("cannot start container %s: %s", container.id, error)
