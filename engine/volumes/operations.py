"""Volumes: data that outlives containers. One instance a daemon, owned by the event loop.

<root>/<name>/_data is the content, <root>/<name>/volume.json the record beside it. A volume gets
its name when it is whole and loses it before its files go, so a crash leaves only names that start
with a dot, which the next start removes.
"""

import asyncio
import contextlib
import errno
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from engine.errors import Conflict, Failure, InvalidRequest, NotFound
from engine.ids import new_id
from engine.kernel.filesystem import syncfs
from engine.kernel.libc import KernelError, told
from engine.kernel.mount import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_by_name, openat2
from engine.kernel.overlay import on_overlay
from engine.oci.document import as_object, text_field, text_map_field
from engine.records import read_record, sync_directory, write_record
from engine.volumes.copy_up import copy_directory, is_directory
from engine.volumes.model import (
    ANONYMOUS_LABEL,
    FileSystem,
    Pruned,
    Volume,
    VolumeSource,
    is_valid_name,
)
from engine.volumes.mounted import is_mounted, mount_filesystem, unmount
from engine.volumes.options import check_options, parse_source
from engine.volumes.trees import clear_temporary, remove_tree, tree_size

log = logging.getLogger(__name__)
Users = Callable[[str], Sequence[str]]  # volume name -> ids of the containers that mount it
Result = TypeVar("Result")

_NONE: Mapping[str, str] = MappingProxyType({})
_RECORD = "volume.json"
_CONTENT = "_data"
_COPYING = "copying"  # beside the content while a copy-up into the part it names is under way
_DRIVER = "local"
_NEW, _TRASH = ".new-", ".trash-"


class Volumes:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._volumes: dict[str, Volume] = {}
        self._changing: dict[str, asyncio.Lock] = {}
        # Volumes with a file system of their own -> containers that have it mounted.
        self._mounted: dict[str, set[str]] = {}
        self._threads = ThreadPoolExecutor(4, "volumes")

    @classmethod
    async def open(cls, root: Path) -> "Volumes":
        """`root` is <data-root>/volumes. Removes what a crash left half removed."""
        volumes = cls(root)
        volumes._volumes = await volumes._in_thread(volumes._recover)
        return volumes

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def create(
        self,
        name: str = "",
        *,
        driver: str = _DRIVER,
        options: Mapping[str, str] = _NONE,
        labels: Mapping[str, str] = _NONE,
    ) -> Volume:
        """The volume; the one that is there already if the name is taken. No name: an anonymous
        one, 64 hex digits."""
        if driver not in ("", _DRIVER):
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" '
                "not found"
            )
        if not name:
            name, labels = new_id(), {**labels, ANONYMOUS_LABEL: ""}
        _check_name(name)
        async with self._lock(name):
            known = self._volumes.get(name)
            if known is not None:
                return known
            mountpoint = str(self._root / name / _CONTENT)
            check_options(name, options)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            volume = Volume(name, mountpoint, now, labels=dict(labels), options=dict(options))
            try:
                await self._in_thread(lambda: self._make(volume))
            except OSError as error:
                raise Failure(f"create {name}: {told(error, str(self._root))}") from error
            self._volumes[name] = volume
            return volume

    def get(self, name: str) -> Volume:
        """Raises NotFound."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def list(self) -> tuple[Volume, ...]:
        return tuple(self._volumes[name] for name in sorted(self._volumes))

    async def remove(self, name: str, *, force: bool = False, users: Users) -> bool:
        """Whether it was there. Raises Conflict while containers mount it; NotFound but with
        `force`."""
        async with self._lock(name):
            if name not in self._volumes:
                if force:
                    return False
                raise NotFound(f"get {name}: no such volume")
            using = users(name)
            if using:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(using)}]")
            await self._remove(name)
            return True

    async def prune(
        self, wanted: Callable[[Volume], bool], *, all_: bool = False, users: Users
    ) -> Pruned:
        """Removes unused volumes of which `wanted` is true: anonymous ones, or with `all_` any, but
        none with options, as in Docker: what those tell to mount isn't said anywhere else."""
        names: list[str] = []
        reclaimed = 0
        for volume in self.list():
            if volume.options or not (all_ or volume.is_anonymous) or not wanted(volume):
                continue
            async with self._lock(volume.name):
                if volume.name not in self._volumes or users(volume.name):
                    continue
                size = await self.size(volume)
                await self._remove(volume.name)
                names.append(volume.name)
                reclaimed += size
        return Pruned(tuple(names), reclaimed)

    def source(self, volume: Volume) -> VolumeSource:
        """What a container mounts for it."""
        source = parse_source(volume.name, volume.mountpoint, volume.options)
        if not os.path.isdir(source.path):
            raise Failure(
                f"error while mounting volume '{volume.mountpoint}': failed to mount local"
                f" volume: mount {source.path}:{volume.mountpoint}: no such file or directory"
            )
        if source.file_system is not None and volume.name not in self._mounted:
            raise Failure(f"volume {volume.name} is not mounted: no container that uses it runs")
        return source

    async def mount_for(self, container_id: str, names: Iterable[str]) -> None:
        """Their file systems are there when this returns, until `unmount_for`."""
        for name in dict.fromkeys(names):
            wanted = self._file_system(name)
            if wanted is None:
                continue
            async with self._lock(name):
                path = self.get(name).mountpoint
                if not wanted.device:
                    raise Failure(
                        f"error while mounting volume '{path}': missing device in volume options"
                    )
                try:
                    await self._in_thread(partial(_mount_once, wanted, path))
                except OSError as error:
                    raise Failure(
                        f"error while mounting volume '{path}': failed to mount local volume:"
                        f" mount {wanted.device}:{path}{_told_options(wanted)}: {told(error)}"
                    ) from error
                self._mounted.setdefault(name, set()).add(container_id)

    async def unmount_for(self, container_id: str) -> None:
        """The container is down. The last one takes the file system away."""
        for name in [name for name, users in self._mounted.items() if container_id in users]:
            async with self._lock(name):
                self._mounted[name].discard(container_id)
                await self._unmount_unused(name)

    @contextlib.asynccontextmanager
    async def mounted(self, names: Iterable[str], *, user: str) -> AsyncIterator[None]:
        """Their file systems are there for the time of what is done without a start."""
        try:
            await self.mount_for(user, names)
            yield
        finally:
            await self.unmount_for(user)

    def still_mounted_for(self, container_id: str, names: Iterable[str]) -> None:
        """After a restart of the daemon: the container runs on, and what it uses is there."""
        for name in names:
            if self._file_system(name) is not None:
                self._mounted.setdefault(name, set()).add(container_id)

    async def settle(self) -> None:
        """All containers that run have been told of: what nobody uses is unmounted."""
        for name in list(self._volumes):
            if self._file_system(name) is not None:
                async with self._lock(name):
                    await self._unmount_unused(name)

    async def _unmount_unused(self, name: str) -> None:
        volume = self._volumes.get(name)
        if volume is None or self._mounted.get(name):
            return
        self._mounted.pop(name, None)

        def unmount_it() -> None:
            if is_mounted(volume.mountpoint):
                unmount(volume.mountpoint)

        try:
            await self._in_thread(unmount_it)
        except OSError as error:
            log.error("cannot unmount volume %s: %s", name, error)

    def _file_system(self, name: str) -> FileSystem | None:
        volume = self._volumes.get(name)
        if volume is None or not volume.options:
            return None
        return parse_source(name, volume.mountpoint, volume.options).file_system

    async def copy_up(
        self, volume: Volume, lowers: Sequence[str], path: str, *, part: str = ""
    ) -> bool:
        """On first use an empty volume takes what the image has at `path`: owners, modes, links,
        extended attributes. `part`: a folder of the volume that does so instead, if it is there.
        True if something was copied."""
        if not volume.options:
            return await self._fill(volume, lowers, path, part)
        # It may lie in a place, or on a server, that is only looked for where it is needed.
        if not await self._in_thread(lambda: self._has_folder(volume.name, lowers, path)):
            return False
        try:
            async with self.mounted((volume.name,), user=new_id()):
                return await self._fill(volume, lowers, path, part)
        except Failure as error:
            raise Failure(f"failed to populate volume: {error}") from error

    async def _fill(self, volume: Volume, lowers: Sequence[str], path: str, part: str) -> bool:
        source = self.source(volume)
        async with self._lock(volume.name):
            try:
                return await self._in_thread(
                    lambda: self._copy_up(volume.name, source.path, part, tuple(lowers), path)
                )
            except OSError as error:
                reason = told(error, volume.mountpoint)
                raise Failure(f"cannot fill volume {volume.name} from {path}: {reason}") from error

    async def size(self, volume: Volume) -> int:
        """Bytes on disk; 0 for a directory elsewhere, which isn't ours to count."""
        if volume.options:
            return 0
        return await self._in_thread(lambda: tree_size(volume.mountpoint))

    # ---- inside

    def _lock(self, name: str) -> asyncio.Lock:
        return self._changing.setdefault(name, asyncio.Lock())

    async def _remove(self, name: str) -> None:
        trash = f"{_TRASH}{secrets.token_hex(8)}"

        def rename() -> None:
            os.rename(self._root / name, self._root / trash)
            sync_directory(self._root)

        try:
            await self._in_thread(rename)
        except OSError as error:
            raise Failure(f"remove {name}: {told(error, str(self._root))}") from error
        del self._volumes[name]
        try:
            await self._in_thread(lambda: remove_tree(self._root, trash))
        except OSError as error:
            # The volume is gone for everyone; the next start tries again to give back its space.
            log.warning("cannot remove all files of volume %s: %s", name, error)

    def _make(self, volume: Volume) -> None:
        temporary = self._root / f"{_NEW}{secrets.token_hex(8)}"
        temporary.mkdir(mode=0o700)
        try:
            content = temporary / _CONTENT
            content.mkdir()
            content.chmod(0o755)
            write_record(temporary / _RECORD, _volume_json(volume))
            os.rename(temporary, self._root / volume.name)
        except BaseException:
            remove_tree(self._root, temporary.name)
            raise
        sync_directory(self._root)

    def _copy_up(
        self, name: str, content: str, part: str, lowers: tuple[str, ...], path: str
    ) -> bool:
        marker = self._root / name / _COPYING
        try:
            target = _open_folder(content, part)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                return False  # the start says what is wrong with it
            raise
        try:
            # A copy that was cut short is taken up again, also into what isn't empty any more.
            is_half_done = marker.exists() and marker.read_text() == part
            if os.listdir(target) and not is_half_done:
                return False
            marker.write_text(part)
            sync_directory(marker.parent)
            clear_temporary(target)
            copied = on_overlay(
                lowers, "", "",
                lambda root: copy_directory(root, path, target),
                scratch=str(self._root / name),
            )  # fmt: skip
            if copied:
                syncfs(target)
            marker.unlink()
        finally:
            os.close(target)
        return copied

    def _has_folder(self, name: str, lowers: Sequence[str], path: str) -> bool:
        scratch = str(self._root / name)
        return on_overlay(lowers, "", "", lambda root: is_directory(root, path), scratch=scratch)

    def _recover(self) -> dict[str, Volume]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found: dict[str, Volume] = {}
        for name in sorted(os.listdir(self._root)):
            if name.startswith((_NEW, _TRASH)):
                remove_tree(self._root, name)
            elif is_valid_name(name) and (self._root / name / _CONTENT).is_dir():
                found[name] = self._read(name)
            else:
                log.warning("%s is no volume", self._root / name)
        return found

    def _read(self, name: str) -> Volume:
        """A volume whose record is unreadable is still somebody's data."""
        folder = self._root / name
        try:
            return _parse_volume(name, str(folder / _CONTENT), read_record(folder / _RECORD))
        except (OSError, ValueError, InvalidRequest) as error:
            log.error("the record of volume %s is damaged, its labels are lost: %s", name, error)
            created = datetime.fromtimestamp(int(folder.stat().st_ctime), UTC)
            return Volume(name, str(folder / _CONTENT), created.strftime("%Y-%m-%dT%H:%M:%SZ"))

    async def _in_thread(self, job: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, job)


def _open_folder(top: str, part: str) -> int:
    """The folder at the path `part` below `top`, which no link leads out of."""
    folder = open_by_name(top)
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY
        return openat2(folder, part or ".", flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    finally:
        os.close(folder)


def _told_options(wanted: FileSystem) -> str:
    return f", data: {','.join(wanted.options)}" if wanted.options else ""


def _mount_once(wanted: FileSystem, path: str) -> None:
    if not is_mounted(path):
        mount_filesystem(wanted, path)


def _check_name(name: str) -> None:
    if len(name) == 1:
        raise InvalidRequest(
            f"create {name}: volume name is too short, names should be at least two alphanumeric"
            " characters"
        )
    if not is_valid_name(name):
        raise InvalidRequest(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, '
            "use absolute path"
        )


def _volume_json(volume: Volume) -> dict[str, object]:
    return {
        "name": volume.name,
        "created": volume.created,
        "labels": dict(volume.labels),
        "options": dict(volume.options),
    }


def _parse_volume(name: str, mountpoint: str, value: object) -> Volume:
    record = as_object(value, "volume record")
    return Volume(
        name=name,
        mountpoint=mountpoint,
        created=text_field(record, "created"),
        labels=text_map_field(record, "labels"),
        options=text_map_field(record, "options"),
    )
