"""Copying between this machine and containers, as `cp -r` names what it copies."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO

from compose.client.containers import Containers, PathStat
from compose.client.errors import NotFound
from compose.client.tars import pack, unpack
from compose.dataclass import dataclass
from compose.errors import UsageError

_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Place:
    """`owner`: the service or container; "": this machine. `path` "-" there: standard input or
    output, as a tar."""

    owner: str
    path: str

    @property
    def takes_content(self) -> bool:
        """`folder/.` means what is in it."""
        return self.path == "." or self.path.endswith("/.")


def parse_place(text: str) -> Place:
    """`OWNER:PATH`; a colon behind a slash is part of a name here."""
    head, colon, path = text.partition(":")
    if colon and head and not head.startswith(".") and "/" not in head:
        return Place(head, path or "/")
    return Place("", text)


# --- from a container -------------------------------------------------------------------------


async def copy_out(
    containers: Containers,
    container: str,
    source: Place,
    target: str,
    directory: Path,
    *,
    archive: bool,
    follow: bool,
) -> int:
    """To `target` on this machine, from `directory`; "-" is standard output. Returns how many
    bytes came. `archive`: with owners. `follow`: what a link leads to. Raises UsageError."""
    # Engines differ in what names they give to what is in a folder; not so for the folder.
    path = (
        (source.path.removesuffix(".").rstrip("/") or "/") if source.takes_content else source.path
    )
    if follow and (link := (await containers.stat_path(container, path)).link_target):
        path = link
    if target == "-":
        async with containers.get_archive(container, path) as blocks:
            return await _drain(blocks, sys.stdout.buffer)
    # Before the archive: while dockerd sends one it answers no other question about the container.
    try:
        found = await containers.stat_path(container, path)
    except NotFound:
        async with containers.get_archive(container, path):  # which says in words what is missing
            raise
    folder, name = outside(directory / target, target, source, found)
    with tempfile.TemporaryFile() as spool:
        async with containers.get_archive(container, path) as blocks:
            size = await _drain(blocks, spool)
        spool.seek(0)
        await asyncio.to_thread(unpack, spool, folder, name, owners=archive)
    return size


async def _drain(blocks: AsyncIterator[bytes], stream: IO[bytes]) -> int:
    size = 0
    async for block in blocks:
        size += len(block)
        stream.write(block)
    stream.flush()
    return size


def outside(place: Path, written: str, source: Place, found: PathStat) -> tuple[Path, str]:
    """The folder that exists, and what the copy is called in it, as `cp -r` decides."""
    if place.is_dir():
        return place, "" if source.takes_content and found.is_directory else found.name
    if place.exists():
        if found.is_directory:
            raise UsageError(f"cannot copy a folder onto the file {written}")
        return place.parent, place.name
    if not place.parent.is_dir():
        raise UsageError(f"cannot copy to {written}: there is no folder {place.parent}")
    if written.endswith("/") and not found.is_directory:
        raise UsageError(f"cannot copy to {written}: there is no such folder")
    return place.parent, place.name


# --- into containers --------------------------------------------------------------------------


async def copy_in(
    containers: Containers,
    targets: Mapping[str, str],
    source: Place,
    path: str,
    directory: Path,
    *,
    archive: bool,
    follow: bool,
) -> int:
    """From this machine, `source` as seen from `directory`, to `path` in each of `targets` (id ->
    name). A source of "-" is a tar on standard input. Returns how many bytes each got."""
    if source.path == "-":
        with tempfile.TemporaryFile() as spool:
            await asyncio.to_thread(_read_input, spool)
            for container in targets:
                await _put(containers, container, path, spool, archive)
            return spool.tell()
    here = directory / source.path
    if not here.exists() and not here.is_symlink():
        raise UsageError(f"cannot copy {source.path}: there is no such file")
    size = 0
    for container, shown in targets.items():
        folder, name = await _inside(containers, container, shown, path, here, source)
        with tempfile.TemporaryFile() as spool:
            await asyncio.to_thread(pack, spool, here, name, follow=follow)
            size = spool.tell()
            await _put(containers, container, folder, spool, archive)
    return size


async def _inside(
    containers: Containers, container: str, shown: str, target: str, here: Path, source: Place
) -> tuple[str, str]:
    """The container's folder, and what the copy is called in it."""
    try:
        found = await containers.stat_path(container, target)
        if found.link_target:
            target = found.link_target
            found = await containers.stat_path(container, target)
        if found.is_directory:
            return target, "" if source.takes_content and here.is_dir() else here.name
        if here.is_dir():
            raise UsageError(f"cannot copy a folder onto the file {target} in {shown}")
    except NotFound:
        if target.endswith("/") and not here.is_dir():
            raise UsageError(
                f"cannot copy to {target} in {shown}: there is no such folder"
            ) from None
    folder, _, name = target.rstrip("/").rpartition("/")
    return folder or "/", name


def _read_input(spool: IO[bytes]) -> None:
    while block := sys.stdin.buffer.read(_BLOCK):
        spool.write(block)


async def _put(
    containers: Containers, container: str, folder: str, spool: IO[bytes], archive: bool
) -> None:
    spool.seek(0)

    async def blocks() -> AsyncIterator[bytes]:
        while block := spool.read(_BLOCK):
            yield block

    await containers.put_archive(container, folder, blocks(), keep_owners=archive, keep_kinds=True)
