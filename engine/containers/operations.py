"""Containers: all that can be asked of them. One instance a daemon, owned by the event loop.

Here a reference becomes a container; what is then done to it lies with the other modules.
"""

import asyncio
import builtins
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from engine.containers import (
    attach,
    checks,
    commit,
    connections,
    contents,
    copies,
    create,
    ending,
    execs,
    legacy_links,
    lifecycle,
    looking_inside,
    restore,
    supervise,
    update,
)
from engine.containers.archive import PathStat
from engine.containers.commit import CommitRequest
from engine.containers.container import Container
from engine.containers.known import Known
from engine.containers.lifecycle import Change as Transition
from engine.containers.logs import LogWatch
from engine.containers.machine import boot_id, read_machine
from engine.containers.model import (
    Change,
    Created,
    CreateRequest,
    EndpointSettings,
    ExecConfig,
    ExecInstance,
    LogQuery,
    PlacedFile,
    Processes,
    Pruned,
    Record,
    ResourceUpdate,
    Status,
    WaitResult,
)
from engine.containers.names import checked_name, made_up_name
from engine.containers.parts import Parts
from engine.containers.remap import read_id_maps
from engine.containers.remove import remove_container
from engine.containers.spec import Machine
from engine.containers.stats import Stats
from engine.containers.store import Store
from engine.containers.streams import parse_detach_keys
from engine.containers.usage import Usage
from engine.errors import Conflict, Failure, InvalidRequest, NotFound, about
from engine.events import EventLog
from engine.images.model import Image
from engine.images.operations import Images
from engine.kernel.libc import told
from engine.networks.operations import Networks
from engine.runtime.cgroup_tree import detect
from engine.runtime.launch import Spawner
from engine.settings import ContainerDefaults
from engine.volumes.operations import Volumes

log = logging.getLogger(__name__)

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


def _machine(defaults: ContainerDefaults) -> Machine:
    found = read_machine()
    return replace(found, ids=read_id_maps(defaults.userns_remap, kernel=found.kernel))


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
        defaults: ContainerDefaults,
    ) -> None:
        self._known = Known()
        self._find = self._known.find
        self._parts = Parts(
            spawner=spawner,
            images=images,
            volumes=volumes,
            networks=networks,
            events=events,
            store=Store(data_root / "containers"),
            machine=_machine(defaults),
            hierarchy=detect(),
            boot_id=boot_id(),
            exec_root=exec_root / "containers",
            log_watch=LogWatch(),
            find=self._known.find,
            forget=self._known.forget,
            volume_users=self._known.volume_users,
            defaults=defaults,
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
        defaults: ContainerDefaults | None = None,
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
            defaults=defaults or ContainerDefaults(),
        )
        await restore.restore(containers._parts, containers._known)
        return containers

    async def close(self) -> None:
        """The daemon stops; running containers go on."""
        await self._parts.tasks.close()
        for container in self._known.all():
            if container.shim is not None:
                container.shim.disconnect()
        self._parts.log_watch.close()
        await asyncio.to_thread(self._parts.store.close)

    # --- finding --------------------------------------------------------------------------

    def get(self, reference: str) -> Record:
        """By id, name (with or without slash), or unique id prefix."""
        return self._find(reference).shown()

    def list(self) -> tuple[Record, ...]:
        """All of them, newest first."""
        return self._known.records()

    def volume_users(self, volume: str) -> tuple[str, ...]:
        """Ids of the containers that mount it."""
        return self._known.volume_users(volume)

    def image_users(self, image_id: str) -> tuple[Record, ...]:
        """Those made from it, or with it mounted."""
        return self._known.image_users(image_id)

    def network_users(self, network_id: str) -> tuple[Record, ...]:
        """Those with an endpoint in it now."""
        return self._known.network_users(network_id)

    def usage(self) -> Usage:
        """At this moment, for lists. What is to be removed asks for its users one by one."""
        return self._known.usage()

    # --- life -----------------------------------------------------------------------------

    async def create(self, request: CreateRequest) -> Created:
        record, warnings = await self._parts.tasks.finish(self._create(request))
        # After whoever asked has his answer, which he reads meanwhile.
        asyncio.get_running_loop().call_soon(create.look_ahead, self._parts, record)
        return Created(record.id, warnings)

    async def _create(self, request: CreateRequest) -> tuple[Record, tuple[str, ...]]:
        await self._parts.turns.take()
        names = self._known.names
        if request.name:
            name = checked_name(request.name)
            self._known.demand_free(name)
        else:
            name = made_up_name(names.__contains__)
        # Reserved before anything is awaited; the id is not known yet.
        names[name] = ""
        try:
            record, warnings = await create.create_container(self._parts, request, name)
        except BaseException as error:
            del names[name]
            if isinstance(error, OSError):
                raise Failure(f"cannot create container {name}: {told(error)}") from error
            raise
        self._known.add(Container(record))
        self._parts.publish(record, "create")
        log.debug("container %s created: %s", record.id, name)
        return record, warnings

    async def start(self, reference: str) -> bool:
        """False if it was running already."""
        return await self._parts.tasks.finish(self._start(self._find(reference)))

    async def _start(self, container: Container) -> bool:
        async with container.held():
            if container.is_marked_for_removal:  # a restart was between its stop and its start
                raise Conflict("container is marked for removal and cannot be started")
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
        number = _stop_signal(container, signal, f"cannot stop container: {reference}")
        return await self._parts.tasks.finish(ending.stop(self._parts, container, timeout, number))

    async def kill(self, reference: str, *, signal: str = "KILL") -> None:
        with about(f"cannot kill container: {reference}"):
            number = checks.parse_signal(signal or "KILL")
            container = self._find(reference)
            await self._parts.tasks.finish(ending.kill(self._parts, container, number))

    async def restart(
        self, reference: str, *, timeout: int | None = None, signal: str = ""
    ) -> None:
        container = self._find(reference)
        number = _stop_signal(container, signal, f"cannot restart container: {reference}")
        await self._parts.tasks.finish(self._restart(container, timeout, number))

    async def _restart(self, container: Container, timeout: int | None, number: int) -> None:
        container.is_being_restarted = True
        try:
            await ending.stop(self._parts, container, timeout, number)
            await self._start(container)
        finally:
            container.is_being_restarted = False
        self._parts.publish(container.record, "restart")

    async def pause(self, reference: str) -> None:
        container = self._find(reference)
        async with container.held():
            lifecycle.demand(container.record, Transition.PAUSE)
            await container.running_shim().pause()
            ending.change(self._parts, container, Transition.PAUSE)
            self._parts.publish(container.record, "pause")

    async def unpause(self, reference: str) -> None:
        container = self._find(reference)
        async with container.held():
            lifecycle.demand(container.record, Transition.UNPAUSE)
            await container.running_shim().resume()
            ending.change(self._parts, container, Transition.UNPAUSE)
            self._parts.publish(container.record, "unpause")

    async def remove(
        self, reference: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        if link:
            await legacy_links.remove_link(self._parts, reference)
        else:
            removal = self._remove(self._find(reference), force=force, volumes=volumes)
            await self._parts.tasks.finish(removal)

    async def _remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        if container.is_being_removed:
            raise Conflict(f"removal of container {container.record.name} is already in progress")
        container.is_marked_for_removal = force
        try:
            is_done = False
            while not is_done:
                if force:
                    await ending.end_for_removal(self._parts, container)
                is_done = await self._remove_ended(container, force=force, volumes=volumes)
        finally:
            container.is_marked_for_removal = False

    async def _remove_ended(self, container: Container, *, force: bool, volumes: bool) -> bool:
        """False: a start had begun before, and has to be ended first."""
        async with container.lock:
            if container.is_gone:
                if not force:
                    raise NotFound(f"No such container: {container.id}")
                return True  # --rm was faster, and what was asked for is done
            status = container.record.state.status
            if force and (status.is_up or status is Status.RESTARTING):
                return False
            await remove_container(self._parts, container, volumes=volumes)
            return True

    async def rename(self, reference: str, name: str) -> None:
        if not name:
            raise InvalidRequest("Neither old nor new names may be empty")
        container = self._find(reference)
        with about("Error when allocating new name"):
            checked = checked_name(f"/{name.removeprefix('/')}")
        await self._parts.tasks.finish(self._rename(container, checked))

    async def _rename(self, container: Container, name: str) -> None:
        names = self._known.names
        async with container.held():
            before = container.record
            if name == before.name:
                raise InvalidRequest("Renaming a container with the same name as its current name")
            with about("Error when allocating new name"):
                self._known.demand_free(name)
            names[name] = before.id
            renamed = replace(before, name=name)
            try:
                await asyncio.to_thread(self._parts.store.commit, renamed)
            except OSError as error:
                del names[name]
                raise Failure(f"cannot rename container {before.name}: {told(error)}") from error
            await supervise.rename_endpoints(self._parts, container, name)
            self._parts.save(container.record)
            del names[before.name]
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

    async def update(
        self,
        reference: str,
        change: ResourceUpdate,
        labels: Mapping[str, str] | None = None,
        files: Mapping[PlacedFile, bytes] | None = None,
    ) -> tuple[str, ...]:
        """Warnings. `labels`: only of those that are pycompose's bookkeeping. `files`: new
        contents, owners and modes of files that it was made with."""
        container = self._find(reference)
        if files:
            await contents.replace_files(self._parts, container, files)
        return await update.update(self._parts, container, change, labels or {})

    # --- output and input -----------------------------------------------------------------

    def logs(self, reference: str, query: LogQuery) -> AsyncIterator[bytes]:
        """Frames ready for the wire (raw for a tty). Refusals are raised by the call itself."""
        return attach.read_logs(self._parts, self._find(reference), query)

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
        return await attach.attach(
            self._parts,
            self._find(reference),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            logs=logs,
            stream=stream,
            detach_keys=detach_keys,
        )

    async def resize(self, reference: str, *, height: int, width: int) -> None:
        await attach.resize(self._parts, self._find(reference), height=height, width=width)

    # --- execs ----------------------------------------------------------------------------

    async def exec_create(self, reference: str, config: ExecConfig) -> ExecInstance:
        container = self._find(reference)
        parse_detach_keys(config.detach_keys, called="escape")
        return (await execs.create(self._parts, container, config)).instance()

    async def exec_start(
        self, exec_id: str, *, detach: bool, tty: bool, console_size: tuple[int, int] = (0, 0)
    ) -> Streams | None:
        """None if detached. A command that can't start raises if detached; else its message is
        in the stream."""
        container, wanted = execs.find(self._known.containers, exec_id)
        return await self._parts.tasks.finish(
            execs.run(
                self._parts,
                container,
                wanted,
                detach=detach,
                tty=tty,
                console_size=console_size,
            )
        )

    def exec_inspect(self, exec_id: str) -> ExecInstance:
        return execs.find(self._known.containers, exec_id)[1].instance()

    async def exec_resize(self, exec_id: str, *, height: int, width: int) -> None:
        container, wanted = execs.find(self._known.containers, exec_id)
        attach.check_size(height, width)
        execs.demand_up(container)
        try:
            # Clients send it right after the start, and it may overtake it.
            async with asyncio.timeout(10):
                await wanted.started.wait()
        except TimeoutError:
            raise Conflict(f"exec {exec_id} is not running") from None
        if wanted.process is None or not wanted.is_running:
            execs.demand_up(container)
            raise NotFound(f"No such exec instance: {exec_id}")
        await wanted.process.resize(height, width)

    # --- looking inside -------------------------------------------------------------------

    async def top(self, reference: str, ps_arguments: str = "-ef") -> Processes:
        container = self._find(reference)
        found = await looking_inside.top(self._parts, container, ps_arguments)
        self._parts.publish(container.record, "top")
        return found

    async def stats(self, reference: str, *, stream: bool, one_shot: bool) -> AsyncIterator[Stats]:
        """One a second; a single one without `stream`, and then at once with `one_shot`. Ends
        with the container's removal; one that is down yields an empty sample."""
        container = self._find(reference)
        samples = looking_inside.stats(self._parts, container, stream=stream, one_shot=one_shot)
        async for one in samples:
            yield one

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
        self,
        reference: str,
        path: str,
        archive: AsyncIterator[bytes],
        *,
        keep_kinds: bool = False,
        for_user: bool = False,
    ) -> None:
        """Unpacks a tar at `path`. `keep_kinds`: no directory replaces a file, nor a file one.
        `for_user`: all of it becomes the container's user's, if it has one."""
        container = self._find(reference)
        await copies.write(
            *(self._parts, container, path, archive),
            name=reference,
            keep_kinds=keep_kinds,
            owner=container.record.config.user if for_user else "",
        )
        self._parts.publish(container.record, "extract-to-dir")

    def upper_directory(self, reference: str) -> Path:
        """Where what it wrote into its root file system lies; for who makes a layer of it."""
        return self._parts.store.folder(self._find(reference).id) / "rootfs/upper"

    async def writable_size(self, reference: str) -> int:
        """Bytes that it wrote into its root file system (SizeRw)."""
        return await looking_inside.writable_size(self._parts, self._find(reference).record)

    # --- networks -------------------------------------------------------------------------

    async def connect(self, network: str, reference: str, settings: EndpointSettings) -> None:
        found = self._parts.networks.get(network)
        container = self._find(reference)
        checks.check_endpoint(settings)
        await self._parts.tasks.finish(
            connections.connect(self._parts, container, found.id, settings)
        )

    async def disconnect(self, network: str, reference: str, *, force: bool = False) -> None:
        found = self._parts.networks.get(network)
        try:
            container = self._find(reference)
        except NotFound:
            if force:
                raise NotFound(f"endpoint {reference} not found") from None
            raise
        await self._parts.tasks.finish(connections.disconnect(self._parts, container, found.id))


def _stop_signal(container: Container, wanted: str, what: str) -> int:
    with about(what):
        return checks.parse_signal(wanted or container.record.config.stop_signal or "TERM")
