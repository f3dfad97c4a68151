"""docker cp: finds the root that a copy works below, and runs the copy in a thread.

A running container's root is its own, with all that is mounted in it. One at rest gets a view made
of its layers and volumes, in a mount namespace that ends with the copy; it can't start meanwhile.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from engine.containers import archive
from engine.containers.archive import PathStat
from engine.containers.container import Container
from engine.containers.model import MountPoint, Record, Status
from engine.containers.mount_sources import require_source, volume_names
from engine.containers.parts import Parts
from engine.errors import Failure, InvalidRequest
from engine.images.feed import Feed, Outlet, run_fed
from engine.images.pack import Sink
from engine.kernel.libc import told
from engine.kernel.overlay import Bind, on_tree
from engine.runtime.handle import Shim
from engine.runtime.id_maps import IdMaps

Result = TypeVar("Result")
UP = (Status.RUNNING, Status.PAUSED)


async def stat(parts: Parts, container: Container, path: str, *, name: str) -> PathStat:
    """`name`: the container as the client called it."""
    _check(path)
    async with _root_of(parts, container) as root:
        return await asyncio.to_thread(
            root.on, lambda top: archive.stat_path(top, path, container=name)
        )


async def read(parts: Parts, container: Container, path: str, *, name: str) -> AsyncIterator[bytes]:
    """The tar. A container at rest stays so until it is read."""
    _check(path)
    async with _root_of(parts, container) as root:

        def pack(sink: Sink) -> None:
            root.on(lambda top: archive.read_archive(top, path, sink, container=name, ids=root.ids))

        with ThreadPoolExecutor(1, "copy") as threads:
            pieces = Outlet(threads).run(pack)
            try:
                async for piece in pieces:
                    yield piece
            finally:
                await pieces.aclose()


async def write(
    parts: Parts,
    container: Container,
    path: str,
    chunks: AsyncIterator[bytes],
    *,
    name: str,
    keep_kinds: bool,
    owner: str,
) -> None:
    """`owner`: who gets all of it, as a container's configuration has it; "" as the tar says."""
    _check(path)
    feed = Feed(chunks)
    read_only = container.record.host.readonly_rootfs

    async with _root_of(parts, container) as root:

        def unpack(top: int) -> None:
            archive.write_archive(
                *(top, path, feed),
                container=name,
                read_only=read_only,
                keep_kinds=keep_kinds,
                owner=owner,
                ids=root.ids,
            )

        with ThreadPoolExecutor(1, "copy") as threads:
            await run_fed(threads, feed, lambda: root.on(unpack))


def _check(path: str) -> None:
    if not path:
        raise InvalidRequest("bad parameter: path cannot be empty")
    if "\0" in path:
        raise InvalidRequest("bad parameter: NUL in the path")


class Root(Protocol):
    """Runs a job with a descriptor of a container's root directory."""

    @property
    def ids(self) -> IdMaps | None:
        """The maps between the owners that are seen here and those that are meant."""

    def on(self, job: Callable[[int], Result]) -> Result: ...


class _Living:
    def __init__(self, root: int, ids: IdMaps | None) -> None:
        self.ids = ids
        self._root = root

    def on(self, job: Callable[[int], Result]) -> Result:
        return job(self._root)

    def close(self) -> None:
        os.close(self._root)


class _Resting:
    ids = None  # on disk, owners are the container's

    def __init__(self, parts: Parts, record: Record) -> None:
        self._id = record.id
        self._folder = parts.store.folder(record.id) / "rootfs"
        self._lowers = parts.images.root_layers(parts.images.resolve(record.image_id))
        found = [_bind(parts, mount) for mount in record.mounts]
        self._binds = [bind for bind in found if bind is not None]

    def on(self, job: Callable[[int], Result]) -> Result:
        upper, work = str(self._folder / "upper"), str(self._folder / "work")
        try:
            return on_tree(self._lowers, upper, work, self._binds, job, scratch=str(self._folder))
        except OSError as error:
            raise Failure(
                f"cannot mount the root of container {self._id}: {told(error)}"
            ) from error


@contextlib.asynccontextmanager
async def _root_of(parts: Parts, container: Container) -> AsyncIterator[Root]:
    """What runs a job with a descriptor of the root. A container at rest can't start as long, nor
    be removed. Raises NotFound."""
    living = None
    while living is None:
        async with container.held():
            shim = container.shim
            if shim is None or container.record.state.status not in UP:
                # What is done ahead of a start has the root mounted.
                await parts.spawner.give_up(container.id)
                record = container.record
                async with parts.volumes.mounted(volume_names(record), user=record.id):
                    yield _Resting(parts, record)
                return
            living, ended = _living(shim), container.run_ended
        if living is None:
            await ended.wait()
    try:
        yield living
    finally:
        living.close()


def _living(shim: Shim) -> _Living | None:
    """None where it has ended by now, which is about to be told."""
    try:
        # The pid can't be another process's as long as the shim holds it.
        root = os.open(f"/proc/{shim.pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError as error:
        raise Failure(f"cannot open the root of process {shim.pid}: {told(error)}") from error
    return _Living(root, shim.ids)


def _bind(parts: Parts, mount: MountPoint) -> Bind | None:
    match mount.type:
        case "bind":
            # As its start would, which says what is wrong: here the place is just not there.
            with contextlib.suppress(InvalidRequest):
                require_source(mount)
                return Bind((mount.source,), mount.destination, mount.read_only)
            return None
        case "volume":
            source = parts.volumes.source(parts.volumes.get(mount.name))
            read_only = mount.read_only or "ro" in source.options
            return Bind((source.path,), mount.destination, read_only, mount.subpath)
        case "image":
            layers = parts.images.layers(parts.images.resolve(mount.source))
            return Bind(tuple(layers), mount.destination, True, mount.subpath)
        case _:  # a tmpfs has no content without its container
            return None
