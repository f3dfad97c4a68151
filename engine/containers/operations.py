"""Containers: all that can be asked of them. One instance a daemon, owned by the event loop."""

import asyncio
import builtins
import itertools
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from engine.containers import (
    checks,
    commit,
    copies,
    create,
    execs,
    lifecycle,
    limits,
    log_options,
    processes,
    start,
    supervise,
)
from engine.containers.archive import PathStat
from engine.containers.commit import CommitRequest
from engine.containers.container import Container
from engine.containers.lifecycle import Change as Transition
from engine.containers.logs import LogWatch, read_log
from engine.containers.machine import boot_id, read_machine, with_block_devices
from engine.containers.model import (
    Attachment,
    Change,
    Created,
    CreateRequest,
    EndpointSettings,
    ExecConfig,
    ExecInstance,
    HostConfig,
    LogQuery,
    Processes,
    Pruned,
    Record,
    ResourceUpdate,
    Status,
    WaitResult,
)
from engine.containers.names import checked_name, made_up_name
from engine.containers.parts import Parts
from engine.containers.remove import remove_container
from engine.containers.spec import cgroup_path, resources
from engine.containers.stats import Sample, Stats, take_sample
from engine.containers.store import Store
from engine.containers.streams import ProcessStreams, parse_detach_keys
from engine.containers.usage import Usage, usage_of
from engine.errors import Conflict, EngineError, Failure, InvalidRequest, NotFound, Unsupported
from engine.events import EventLog
from engine.ids import short_id
from engine.images.model import Image
from engine.images.operations import Images
from engine.networks.model import Standing
from engine.networks.operations import Networks
from engine.runtime.cgroup_tree import Cgroup, detect
from engine.runtime.launch import Lost, Shim, Spawner
from engine.volumes.operations import Volumes

log = logging.getLogger(__name__)

DEFAULT_STOP_TIMEOUT = 10  # seconds
# After SIGKILL a process is gone at once, unless the kernel itself hangs (a dead disk).
KILL_TIMEOUT = 20.0
_CONDITIONS = ("not-running", "next-exit", "removed")


class Streams(Protocol):
    """One client's connection to a container's or an exec's stdio (attach, exec start)."""

    @property
    def tty(self) -> bool: ...
    def __aiter__(self) -> AsyncIterator[bytes]:
        """Output as it goes on the wire: stdcopy frames, raw for a tty. Ends with the process,
        or when the detach keys were seen."""
        ...

    async def write(self, data: bytes) -> None: ...
    async def write_eof(self) -> None:
        """The client shut down its sending side: stdin of the process ends."""
        ...

    async def close(self) -> None:
        """The client is gone; the process goes on."""
        ...


class Containers:
    def __init__(
        self,
        data_root: Path,
        exec_root: Path,
        *,
        spawner: Spawner,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        events: EventLog,
    ) -> None:
        hierarchy = detect()
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}  # name -> id
        self._parts = Parts(
            spawner=spawner,
            images=images,
            volumes=volumes,
            networks=networks,
            events=events,
            store=Store(data_root / "containers"),
            machine=read_machine(),
            hierarchy=hierarchy,
            boot_id=boot_id(),
            exec_root=exec_root / "containers",
            log_watch=LogWatch(),
            find=self._find,
            forget=self._forget,
            volume_users=self.volume_users,
        )

    @classmethod
    async def open(
        cls,
        data_root: Path,
        exec_root: Path,
        *,
        spawner: Spawner,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        events: EventLog,
    ) -> "Containers":
        """Reads the records, adopts what runs, learns exits that were missed."""
        containers = cls(
            data_root,
            exec_root,
            spawner=spawner,
            images=images,
            volumes=volumes,
            networks=networks,
            events=events,
        )
        await containers._restore()
        return containers

    async def close(self) -> None:
        """The daemon stops; running containers go on."""
        await self._parts.tasks.close()
        for container in self._containers.values():
            if container.shim is not None:
                container.shim.disconnect()
        self._parts.log_watch.close()

    # --- a new daemon ---------------------------------------------------------------------

    async def _restore(self) -> None:
        parts = self._parts
        for folder in (parts.store.root, parts.exec_root):
            folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        records, leftovers = parts.store.load()
        for record in records:
            self._containers[record.id] = Container(record)
            self._names[record.name] = record.id
        for container_id, volumes in leftovers:
            await self._clear_leftover(container_id, volumes)
        async with asyncio.TaskGroup() as group:
            for container in tuple(self._containers.values()):
                group.create_task(self._adopt(container))
            for path in parts.exec_root.iterdir():
                if path.name not in self._containers:
                    group.create_task(self._end_stray(path))
        await parts.networks.settle()
        await parts.volumes.settle()
        for container in tuple(self._containers.values()):
            supervise.resume(parts, container)

    async def _adopt(self, container: Container) -> None:
        try:
            await supervise.adopt(self._parts, container)
        except (EngineError, OSError) as error:
            # One container's trouble must not keep the others down.
            log.error("cannot take over container %s: %s", container.id, error)

    async def _clear_leftover(self, container_id: str, volumes: tuple[str, ...]) -> None:
        """Of a create or a remove that a crash interrupted."""
        log.info("clearing away container %s, which never was or no longer is", container_id)
        for volume in volumes:
            try:
                await self._parts.volumes.remove(volume, force=True, users=self.volume_users)
            except EngineError as error:
                log.warning("volume %s stays: %s", volume, error)
        self._parts.store.clear(container_id)

    async def _end_stray(self, exec_dir: Path) -> None:
        """A process without a record: its start never came to its end."""
        try:
            found = await Shim.adopt(str(exec_dir))
            if isinstance(found, Shim):
                await start.abandon(found)
            start.clear_exec_dir(str(exec_dir))
        except (EngineError, OSError) as error:
            log.error("cannot clear away %s: %s", exec_dir, error)

    # --- finding --------------------------------------------------------------------------

    def get(self, reference: str) -> Record:
        """By id, name (with or without slash), or unique id prefix."""
        return self._find(reference).shown()

    def list(self) -> tuple[Record, ...]:
        """All of them, newest first."""
        records = (container.shown() for container in self._containers.values())
        return tuple(sorted(records, key=lambda record: record.created, reverse=True))

    def _find(self, reference: str) -> Container:
        if (found := self._containers.get(reference)) is not None:
            return found
        # A name may be reserved for a container that is just being created.
        named = self._names.get(reference.removeprefix("/"), "")
        if (found := self._containers.get(named)) is not None:
            return found
        matching = (
            []
            if not reference
            else [
                container
                for key, container in self._containers.items()
                if key.startswith(reference)
            ]
        )
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise InvalidRequest(f"Multiple IDs found with provided prefix: {reference}")
        raise NotFound(f"No such container: {reference}")

    def _forget(self, container: Container) -> None:
        self._containers.pop(container.id, None)
        if self._names.get(container.record.name) == container.id:
            del self._names[container.record.name]

    def volume_users(self, volume: str) -> tuple[str, ...]:
        """Ids of the containers that mount it."""
        return tuple(
            container.id
            for container in self._containers.values()
            if any(mount.name == volume for mount in container.record.mounts)
        )

    def usage(self) -> Usage:
        """At this moment, for lists. What is to be removed asks for its users one by one."""
        return usage_of(container.record for container in self._containers.values())

    def image_users(self, image_id: str) -> tuple[Record, ...]:
        """Those made from it, or with it mounted."""
        return tuple(
            record
            for record in self.list()
            if record.image_id == image_id
            or any(one.type == "image" and one.source == image_id for one in record.mounts)
        )

    def network_users(self, network_id: str) -> tuple[Record, ...]:
        """Those with an endpoint in it now."""
        return tuple(
            record
            for record in self.list()
            if any(
                attachment.network_id == network_id and attachment.endpoint is not None
                for attachment in record.attachments
            )
        )

    # --- life -----------------------------------------------------------------------------

    async def create(self, request: CreateRequest) -> Created:
        return await self._parts.tasks.finish(self._create(request))

    async def _create(self, request: CreateRequest) -> Created:
        await self._parts.turns.take()
        if request.name:
            name = checked_name(request.name)
            self._demand_free(name)
        else:
            name = made_up_name(self._names.__contains__)
        # Reserved before anything is awaited; the id is not known yet.
        self._names[name] = ""
        try:
            record, warnings = await create.create_container(self._parts, request, name)
        except BaseException as error:
            del self._names[name]
            if isinstance(error, OSError):
                raise Failure(f"cannot create container {name}: {error}") from error
            raise
        self._names[name] = record.id
        self._containers[record.id] = Container(record)
        self._parts.publish(record, "create")
        log.info("container %s created: %s", record.id, name)
        return Created(record.id, warnings)

    def _demand_free(self, name: str) -> None:
        if name in self._names:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{self._names[name]}". You have to remove (or rename) that container to be '
                "able to reuse that name."
            )

    async def start(self, reference: str) -> bool:
        """False if it was running already."""
        return await self._parts.tasks.finish(self._start(self._find(reference)))

    async def _start(self, container: Container) -> bool:
        async with container.held():
            if container.record.state.status is Status.RUNNING:
                return False
            if container.restart_task is not None:
                container.restart_task.cancel()
                container.restart_task = None
            container.backoff = type(container.backoff)()
            container.record = replace(container.record, restart_count=0)
            await supervise.start_container(self._parts, container)
            return True

    async def stop(self, reference: str, *, timeout: int | None = None, signal: str = "") -> bool:
        """`timeout` in seconds, -1 = for ever, None = the container's own. False if it was down."""
        container = self._find(reference)
        number = checks.parse_signal(signal or container.record.config.stop_signal or "TERM")
        return await self._parts.tasks.finish(self._stop(container, timeout, number))

    async def _stop(self, container: Container, timeout: int | None, number: int) -> bool:
        if await self._give_up(container):
            self._parts.publish(container.record, "stop")
            return True
        shim = container.shim
        if shim is None or not container.record.state.status.is_up:
            return False
        self._mark_stopped(container)
        ended = container.run_ended
        # Before it stops to answer, others take over what they share with it.
        await self._parts.networks.regard(container.id, Standing.UNFIT)
        await self._signal(container, shim, number)
        if container.record.state.status is Status.PAUSED:
            # A frozen process gets the signal once it runs again.
            await self._thaw(container)
        if timeout is None:
            own = container.record.config.stop_timeout
            timeout = DEFAULT_STOP_TIMEOUT if own is None else own
        try:
            async with asyncio.timeout(None if timeout < 0 else timeout):
                await ended.wait()
        except TimeoutError:
            log.info("container %s did not stop within %d s: killing it", container.id, timeout)
            await self._kill_and_wait(container, shim, ended)
        self._parts.publish(container.record, "stop")
        return True

    def _mark_stopped(self, container: Container) -> None:
        record = container.record
        container.record = replace(record, state=replace(record.state, stopped_by_user=True))
        self._parts.save(container.record)

    async def _give_up(self, container: Container) -> bool:
        """Whether it was waiting for a restart, and now isn't."""
        async with container.held():
            if container.record.state.status is not Status.RESTARTING:
                return False
            supervise.give_up_restarting(self._parts, container)
            return True

    async def _signal(self, container: Container, shim: Shim, number: int) -> None:
        try:
            await shim.kill(number)
        except Lost:
            return  # its exit is being told
        self._parts.publish(container.record, "kill", signal=str(number))

    async def _thaw(self, container: Container) -> None:
        async with container.held():
            if container.shim is not None and container.record.state.status is Status.PAUSED:
                await container.shim.resume()
                self._change(container, Transition.UNPAUSE)

    def _change(self, container: Container, change: Transition) -> None:
        state = lifecycle.changed(container.record.state, change)
        container.record = replace(container.record, state=state)
        self._parts.save(container.record)

    async def _kill_and_wait(self, container: Container, shim: Shim, ended: asyncio.Event) -> None:
        await self._signal(container, shim, checks.parse_signal("KILL"))
        if container.record.state.status is Status.PAUSED:
            await self._thaw(container)
        try:
            async with asyncio.timeout(KILL_TIMEOUT):
                await ended.wait()
        except TimeoutError:
            raise Failure(
                f"cannot stop container {container.id}: tried to kill it, but did not receive "
                "an exit event"
            ) from None

    async def kill(self, reference: str, *, signal: str = "KILL") -> None:
        container = self._find(reference)
        number = checks.parse_signal(signal or "KILL")
        await self._parts.tasks.finish(self._kill(container, reference, number))

    async def _kill(self, container: Container, reference: str, number: int) -> None:
        is_final = number == checks.parse_signal("KILL")
        if is_final and await self._give_up(container):
            return
        shim = container.shim
        if shim is None or not container.record.state.status.is_up:
            raise Conflict(
                f"cannot kill container: {reference}: container {container.id} is not running"
            )
        stop_signal = container.record.config.stop_signal or "TERM"
        if is_final or number == checks.parse_signal(stop_signal):
            self._mark_stopped(container)
        if is_final:
            await self._kill_and_wait(container, shim, container.run_ended)
        else:
            await self._signal(container, shim, number)

    async def restart(
        self, reference: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        container = self._find(reference)
        number = checks.parse_signal(signal or container.record.config.stop_signal or "TERM")
        await self._parts.tasks.finish(self._restart(container, timeout, number))

    async def _restart(self, container: Container, timeout: int | None, number: int) -> None:
        container.is_being_restarted = True
        try:
            await self._stop(container, timeout, number)
            await self._start(container)
        finally:
            container.is_being_restarted = False
        self._parts.publish(container.record, "restart")

    async def pause(self, reference: str) -> None:
        container = self._find(reference)
        async with container.held():
            lifecycle.demand(container.record, Transition.PAUSE)
            await _shim(container).pause()
            self._change(container, Transition.PAUSE)
            self._parts.publish(container.record, "pause")

    async def unpause(self, reference: str) -> None:
        container = self._find(reference)
        async with container.held():
            lifecycle.demand(container.record, Transition.UNPAUSE)
            await _shim(container).resume()
            self._change(container, Transition.UNPAUSE)
            self._parts.publish(container.record, "unpause")

    async def remove(
        self, reference: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        if link:
            raise Unsupported("cannot remove a link: there are none")
        container = self._find(reference)
        await self._parts.tasks.finish(self._remove(container, force=force, volumes=volumes))

    async def _remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        if container.is_being_removed:
            raise Conflict(f"removal of container {container.record.name} is already in progress")
        if force:
            await self._end_for_removal(container)
        async with container.lock:
            if not container.is_gone:
                await remove_container(self._parts, container, volumes=volumes)
            elif not force:
                raise NotFound(f"No such container: {container.id}")
            # With force: --rm was faster, and what was asked for is done.

    async def _end_for_removal(self, container: Container) -> None:
        if container.record.state.status is Status.RESTARTING and await self._give_up(container):
            return
        shim = container.shim
        if shim is not None and container.record.state.status.is_up:
            self._mark_stopped(container)
            container.is_ended_for_removal = True
            try:
                await self._kill_and_wait(container, shim, container.run_ended)
            finally:
                container.is_ended_for_removal = False

    async def rename(self, reference: str, name: str) -> None:
        container = self._find(reference)
        if not name:
            raise InvalidRequest("Neither old nor new names may be empty")
        await self._parts.tasks.finish(self._rename(container, checked_name(name)))

    async def _rename(self, container: Container, name: str) -> None:
        async with container.held():
            before = container.record
            if name == before.name:
                raise InvalidRequest("Renaming a container with the same name as its current name")
            self._demand_free(name)
            self._names[name] = before.id
            renamed = replace(before, name=name)
            try:
                await asyncio.to_thread(self._parts.store.commit, renamed)
            except OSError as error:
                del self._names[name]
                raise Failure(f"cannot rename container {before.name}: {error}") from error
            await supervise.rename_endpoints(self._parts, container, name)
            self._parts.save(container.record)
            del self._names[before.name]
            self._parts.publish(container.record, "rename", oldName=f"/{before.name}")

    def wait(self, reference: str, *, condition: str = "") -> Awaitable[WaitResult]:
        """Counts from this call on (send the head, then await)."""
        kind = condition or "not-running"
        if kind not in _CONDITIONS:
            raise InvalidRequest(f'invalid condition: "{condition}"')
        container = self._find(reference)
        future: asyncio.Future[WaitResult] = asyncio.get_running_loop().create_future()
        state = container.record.state
        is_down = not state.status.is_up and state.status is not Status.RESTARTING
        if kind == "not-running" and is_down:
            future.set_result(WaitResult(state.exit_code, state.error))
        else:
            container.add_waiter(kind, future)
        return future

    # --- output and input -----------------------------------------------------------------

    def logs(self, reference: str, query: LogQuery) -> AsyncIterator[bytes]:
        """Frames ready for the wire (raw for a tty). Refusals are raised by the call itself."""
        return self._logs(self._find(reference), query)

    def _logs(self, container: Container, query: LogQuery) -> AsyncIterator[bytes]:
        record = container.record
        if not query.stdout and not query.stderr:
            raise InvalidRequest("Bad parameters: you must choose at least one stream")
        if not record.log_path:
            raise Unsupported("configured logging driver does not support reading")
        _, max_file = log_options.log_limits(record.host.log_config)
        noted = log_options.attributes(record) if query.details else {}

        def is_live() -> bool:
            status = container.record.state.status
            return status.is_up or status is Status.RESTARTING

        return read_log(
            record.log_path,
            query,
            tty=record.config.tty,
            max_file=max_file,
            is_live=is_live,
            watch=self._parts.log_watch,
            details=log_options.details(noted) if query.details else b"",
        )

    async def attach(
        self,
        reference: str,
        *,
        stdin: bool,
        stdout: bool,
        stderr: bool,
        logs: bool = False,
        stream: bool = True,
        detach_keys: str = "",
    ) -> Streams:
        container = self._find(reference)
        record = container.record
        keys = parse_detach_keys(detach_keys)
        if record.state.status is Status.PAUSED:
            raise Conflict(f"Container {record.id} is paused, unpause the container before attach")
        if record.state.status is Status.RESTARTING:
            raise Conflict(
                f"Container {record.id} is restarting, wait until the container is running"
            )
        replay = None
        if logs and (stdout or stderr):
            replay = self._logs(container, LogQuery(stdout=stdout, stderr=stderr))
        client = ProcessStreams(
            tty=record.config.tty,
            detach_keys=keys if stdin else b"",
            when_detached=lambda: self._parts.publish(container.record, "detach"),
            replay=replay,
        )
        client.stdin = stdin and record.config.open_stdin
        client.stdout, client.stderr = stdout, stderr
        async with container.held():
            if not stream:
                client.never_connects()
            elif container.shim is None:
                client.when_closed = lambda: container.waiting_clients.discard(client)
                container.waiting_clients.add(client)
            else:
                reader, writer = await container.shim.attach(
                    stdin=client.stdin, stdout=stdout, stderr=stderr
                )
                client.connect(reader, writer, container.run_ended)
        self._parts.publish(record, "attach")
        return client

    async def resize(self, reference: str, *, height: int, width: int) -> None:
        container = self._find(reference)
        _check_size(height, width)
        if container.record.state.status is Status.CREATED:
            container.console_size = (height, width)
            return
        await _shim(container).resize(height, width)
        size = {"height": str(height), "width": str(width)}
        self._parts.publish(container.record, "resize", **size)

    # --- execs ----------------------------------------------------------------------------

    def exec_create(self, reference: str, config: ExecConfig) -> ExecInstance:
        container = self._find(reference)
        parse_detach_keys(config.detach_keys)
        return execs.create(self._parts, container, config).instance()

    async def exec_start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] = (0, 0)
    ) -> Streams | None:
        """None if detached. A command that can't start raises if detached; else its message is
        in the stream."""
        container, wanted = execs.find(self._containers, exec_id)
        return await self._parts.tasks.finish(
            execs.run(
                self._parts,
                container,
                wanted,
                detach=detach,
                console_size=console_size,
            )
        )

    def exec_inspect(self, exec_id: str) -> ExecInstance:
        return execs.find(self._containers, exec_id)[1].instance()

    async def exec_resize(self, exec_id: str, *, height: int, width: int) -> None:
        _, wanted = execs.find(self._containers, exec_id)
        _check_size(height, width)
        try:
            # Clients send it right after the start, and it may overtake it.
            async with asyncio.timeout(10):
                await wanted.started.wait()
        except TimeoutError:
            raise Conflict(f"exec {exec_id} is not running") from None
        if wanted.process is None or not wanted.is_running:
            raise NotFound(f"No such exec instance: {exec_id}")
        await wanted.process.resize(height, width)

    # --- looking inside -------------------------------------------------------------------

    async def top(self, reference: str, ps_arguments: str = "-ef") -> Processes:
        container = self._find(reference)
        _shim(container)
        processes.wanted_columns(ps_arguments)
        pids = sorted(self._cgroup(container).pids())
        return await asyncio.to_thread(
            lambda: processes.table(
                (found for pid in pids if (found := processes.read_process(pid)) is not None),
                ps_arguments,
            )
        )

    def _cgroup(self, container: Container) -> Cgroup:
        return Cgroup(self._parts.hierarchy, cgroup_path(container.record))

    async def stats(self, reference: str, *, stream: bool, one_shot: bool) -> AsyncIterator[Stats]:
        """One a second; a single one without `stream`, and then at once with `one_shot`. Ends
        with the container's removal; one that is down yields an empty sample."""
        container = self._find(reference)
        previous = None
        for turn in itertools.count():
            current = self._sample(container)
            last = not stream and (one_shot or turn == 1 or current.counters is None)
            if stream or last:
                yield Stats(current, previous)
            if last or container.id not in self._containers:
                return
            previous = current
            await asyncio.sleep(1)

    def _sample(self, container: Container) -> Sample:
        state = container.record.state
        if not state.status.is_up:
            return Sample(time.time_ns())
        try:
            return take_sample(self._cgroup(container).counters(), state.pid)
        except FileNotFoundError:
            return Sample(time.time_ns())

    async def changes(self, reference: str) -> tuple[Change, ...]:
        return await commit.changes(self._parts, self._find(reference).record)

    async def commit(self, reference: str, request: CommitRequest) -> Image:
        container = self._find(reference)
        return await self._parts.tasks.finish(commit.commit(self._parts, container, request))

    def export(self, reference: str) -> AsyncIterator[bytes]:
        """Its root file system as a tar. Refusals are raised by the call itself."""
        record = self._find(reference).record
        self._parts.publish(record, "export")
        return commit.export(self._parts, record)

    async def stat_path(self, reference: str, path: str) -> PathStat:
        return await copies.stat(self._parts, self._find(reference), path, name=reference)

    async def read_archive(
        self, reference: str, path: str
    ) -> tuple[PathStat, AsyncIterator[bytes]]:
        """What lies at `path`, as a tar. Refusals are raised by the call itself."""
        container = self._find(reference)
        found = await copies.stat(self._parts, container, path, name=reference)
        self._parts.publish(container.record, "archive-path")
        return found, copies.read(self._parts, container, path, name=reference)

    async def write_archive(
        self, reference: str, path: str, archive: AsyncIterator[bytes], *, keep_kinds: bool = False
    ) -> None:
        """Unpacks a tar at `path`. `keep_kinds`: no directory replaces a file, nor a file one."""
        container = self._find(reference)
        await copies.write(
            self._parts, container, path, archive, name=reference, keep_kinds=keep_kinds
        )
        self._parts.publish(container.record, "extract-to-dir")

    async def update(self, reference: str, change: ResourceUpdate) -> tuple[str, ...]:
        """Warnings."""
        container = self._find(reference)
        async with container.held():
            record = container.record
            if container.is_being_removed or record.state.status is Status.DEAD:
                raise Conflict('Container is marked for removal and cannot be "update".')
            try:
                after, warnings = self._updated(record.host, change)
                if record.state.status.is_up:
                    await asyncio.to_thread(self._limit, container, after)
            except EngineError as error:
                raise type(error)(f"Cannot update container {record.id}: {error}") from error
            container.record = replace(record, host=after)
            await asyncio.to_thread(self._parts.store.commit, container.record)
            self._parts.publish(container.record, "update")
        return warnings

    def _updated(
        self, host: HostConfig, change: ResourceUpdate
    ) -> tuple[HostConfig, tuple[str, ...]]:
        after, warnings = limits.fitted(
            limits.updated(host, change), unified=self._parts.hierarchy.is_v2
        )
        checks.check_resources(after, cpus=self._parts.machine.cpus)
        if change.restart_policy is not None and host.auto_remove:
            raise InvalidRequest(
                "Restart policy cannot be updated because AutoRemove is enabled for the container"
            )
        checks.check_restart_policy(after.restart_policy, auto_remove=after.auto_remove)
        return after, warnings

    def _limit(self, container: Container, host: HostConfig) -> None:
        """Blocks: the kernel may have to reclaim memory. What it refuses changes nothing."""
        cgroup = self._cgroup(container)
        try:
            cgroup.update(_limits(host))
        except (OSError, EngineError) as error:
            cgroup.update(_limits(container.record.host))
            if isinstance(error, EngineError):
                raise
            raise Failure(str(error)) from error

    async def prune(self, wanted: Callable[[Record], bool]) -> Pruned:
        deleted: builtins.list[str] = []
        reclaimed = 0
        for record in self.list():
            status = record.state.status
            if status not in (Status.CREATED, Status.EXITED, Status.DEAD) or not wanted(record):
                continue
            size = await self.writable_size(record.id)
            try:
                await self.remove(record.id)
            except (Conflict, NotFound):
                continue  # started, or removed by somebody else meanwhile
            deleted.append(record.id)
            reclaimed += size
        return Pruned(tuple(deleted), reclaimed)

    def upper_directory(self, reference: str) -> Path:
        """Where what it wrote into its root file system lies; for who makes a layer of it."""
        return self._parts.store.folder(self._find(reference).id) / "rootfs/upper"

    async def writable_size(self, reference: str) -> int:
        """Bytes that it wrote into its root file system (SizeRw)."""
        folder = self._parts.store.folder(self._find(reference).id) / "rootfs/upper"
        return await asyncio.to_thread(_disk_usage, folder)

    # --- networks -------------------------------------------------------------------------

    async def connect(self, network: str, reference: str, settings: EndpointSettings) -> None:
        found = self._parts.networks.get(network)
        container = self._find(reference)
        checks.check_endpoint(settings)
        await self._parts.tasks.finish(self._connect(container, found.id, settings))

    async def _connect(
        self, container: Container, network_id: str, settings: EndpointSettings
    ) -> None:
        network = self._parts.networks.get(network_id)
        async with container.held():
            record = container.record
            mode = record.host.network_mode
            if mode == "host" or mode.startswith("container:") or not network.has_links:
                raise InvalidRequest(
                    "container sharing network namespace with another container or host cannot "
                    "be connected to any other network"
                )
            if any(
                _is_in(attachment, network.id, network.name) for attachment in record.attachments
            ):
                raise create.already_connected(record.name, network.name)
            added = Attachment(network.name, settings, network.id)
            if container.shim is not None:
                added = start.attach(self._parts, record, added)
                assert added.endpoint is not None
                # Ahead of the kernel: after a crash from here on, adoption joins it.
                self._parts.save(replace(record, attachments=_with(record, added)))
                try:
                    sockets = await container.shim.network_sockets()
                    await self._parts.networks.connect(record.id, added.endpoint, sockets)
                except BaseException:
                    self._parts.save(record)
                    await self._take_back(container, network.id)
                    raise
            container.record = replace(record, attachments=_with(record, added))
            await self._store_networks(container)
        supervise.network_event(self._parts, container.record, "connect", network.id)

    async def _take_back(self, container: Container, network_id: str) -> None:
        if container.shim is not None:
            sockets = await container.shim.network_sockets()
            await self._parts.networks.disconnect(container.id, network_id, sockets)

    async def _store_networks(self, container: Container) -> None:
        record = container.record
        if container.shim is not None:
            start.write_files(self._parts, record, start.network_place(self._parts, record))
        self._parts.save(record)
        await asyncio.to_thread(self._parts.store.commit, record)

    async def disconnect(self, network: str, reference: str, *, force: bool = False) -> None:
        found = self._parts.networks.get(network)
        try:
            container = self._find(reference)
        except NotFound:
            if force:
                return
            raise
        await self._parts.tasks.finish(self._disconnect(container, found.id))

    async def _disconnect(self, container: Container, network_id: str) -> None:
        network = self._parts.networks.get(network_id)
        async with container.held():
            record = container.record
            if record.host.network_mode == "host":
                raise InvalidRequest(
                    "container cannot be disconnected from host network or connected to host "
                    "network"
                )
            kept = tuple(
                one for one in record.attachments if not _is_in(one, network.id, network.name)
            )
            if len(kept) == len(record.attachments):
                raise Failure(f"container {record.id} is not connected to network {network.name}")
            if container.shim is not None:
                sockets = await container.shim.network_sockets()
                await self._parts.networks.disconnect(record.id, network.id, sockets)
            container.record = replace(record, attachments=kept)
            await self._store_networks(container)
        supervise.network_event(self._parts, container.record, "disconnect", network.id)


def _limits(host: HostConfig) -> dict[str, object]:
    """All but the devices; 0 processes means any number, which has to be said to undo a limit."""
    found = resources(with_block_devices(host), ())
    del found["devices"]
    if host.pids_limit == 0:
        found["pids"] = {"limit": -1}
    return found


def _with(record: Record, added: Attachment) -> tuple[Attachment, ...]:
    # "none" stands for no network at all.
    return (*(one for one in record.attachments if one.network != "none"), added)


def _is_in(attachment: Attachment, network_id: str, name: str) -> bool:
    if attachment.network_id:
        return attachment.network_id == network_id
    return attachment.network in (name, network_id, short_id(network_id))


def _shim(container: Container) -> Shim:
    if container.shim is None or not container.record.state.status.is_up:
        raise Conflict(f"container {container.id} is not running")
    return container.shim


def _check_size(height: int, width: int) -> None:
    if not 0 <= height < 65536 or not 0 <= width < 65536:
        raise InvalidRequest(f"invalid terminal size: {height} rows, {width} columns")


def _disk_usage(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            status = path.lstat()
        except OSError:
            continue  # gone meanwhile
        total += status.st_blocks * 512
    return total
