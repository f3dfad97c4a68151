"""Files whose contents came with the request that made a container: its configs and secrets.

In the container they are on a tmpfs (runtime/files.py). What the next start needs, also after a
reboot, waits in the container's own folder, one file each, which only root can read; it goes with
the container, and is in no record.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.containers.container import Container
from engine.containers.model import MountPoint, PlacedFile
from engine.containers.mounts import checked_target
from engine.containers.parts import Parts
from engine.errors import Failure, InvalidRequest
from engine.records import sync_directory
from engine.runtime.files import File

FOLDER = "files"
LARGEST = 2 << 20  # bytes of all files of a container


def check(files: Mapping[PlacedFile, bytes], mounts: Iterable[MountPoint]) -> None:
    taken = {mount.destination for mount in mounts}
    for file in files:
        if checked_target(file.target) != file.target:
            raise InvalidRequest(
                f"invalid path of a file: '{file.target}' has to be absolute and clean"
            )
        if file.target in taken:
            raise InvalidRequest(f"Duplicate mount point: {file.target}")
        taken.add(file.target)
    _check_size(files)


def _check_size(files: Mapping[PlacedFile, bytes]) -> None:
    if sum(map(len, files.values())) > LARGEST:
        raise InvalidRequest(f"a container's files may hold {LARGEST} bytes together: mount others")


def write(folder: Path, contents: Sequence[bytes]) -> None:
    """Durable once its folder is. The number of a file is its place in `Record.files`."""
    own = folder / FOLDER
    own.mkdir(mode=0o700)
    for number, content in enumerate(contents):
        _write_one(own / str(number), content)
    sync_directory(own)


def _write_one(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def to_place(folder: Path, files: Sequence[PlacedFile]) -> tuple[File, ...]:
    return tuple(
        _placed(file, (folder / FOLDER / str(number)).read_bytes())
        for number, file in enumerate(files)
    )


def _placed(file: PlacedFile, content: bytes) -> File:
    return File(file.target, content, file.uid, file.gid, file.mode)


async def replace_files(
    parts: Parts, container: Container, files: Mapping[PlacedFile, bytes]
) -> None:
    """New contents, also owners and modes, for some of the files that the container has."""
    _check_size(files)
    async with container.held():
        record = container.record
        numbers = {file.target: number for number, file in enumerate(record.files)}
        for file in files:
            if file.target not in numbers:
                raise InvalidRequest(f"container {record.id} was made without a file {file.target}")
        folder = parts.store.folder(record.id)
        new = [
            (numbers[file.target], file, content)
            for file, content in files.items()
            if file not in record.files or content != _kept(folder, numbers[file.target])
        ]
        if container.shim is not None and record.state.status.is_up and new:
            placed = [_placed(file, content) for _, file, content in new]
            try:
                await container.shim.replace_files(placed)
            except Failure as error:
                raise Failure(f"cannot replace files of container {record.id}: {error}") from error
        kept = list(record.files)
        for number, file, content in new:
            kept[number] = file
            await asyncio.to_thread(_replace_one, folder / FOLDER / str(number), content)
        container.record = replace(record, files=tuple(kept))
        await asyncio.to_thread(parts.store.commit, container.record)


def _kept(folder: Path, number: int) -> bytes:
    return (folder / FOLDER / str(number)).read_bytes()


def _replace_one(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        _write_one(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)
