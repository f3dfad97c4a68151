"""A build context on its way to the engine: the folder as a tar, piece by piece, without what its
.dockerignore leaves out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
import tarfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compose import patterns
from compose.client.errors import ClientError
from compose.patterns import Pattern

PIECE = 1 << 18
IGNORE = ".dockerignore"
_TICK = 50_000_000  # nanoseconds: times of files are no finer than the kernel's clock
# What a Dockerfile that isn't in the context is called there; the same each time, for the cache.
HIDDEN = ".dockerfile.pycompose"


@dataclass(frozen=True, slots=True)
class Context:
    """`dockerfile`: its name in the tar. `hidden`: its content, where it isn't in the folder."""

    folder: Path
    dockerfile: str
    ignore: tuple[Pattern, ...]
    ignore_text: str | None = None  # sent instead of the folder's own
    hidden: bytes | None = None
    rules: str = ""  # what its ignore patterns come from


def read_context(folder: Path, dockerfile: str, inline: str) -> Context:
    """Raises ClientError for what isn't there."""
    if not folder.is_dir():
        raise ClientError(f"the build context {folder} is not a folder")
    hidden = inline.encode() if inline else None
    name = HIDDEN
    specific: Path | None = None
    if not inline:
        path = folder / (dockerfile or "Dockerfile")
        if not path.is_file():
            raise ClientError(f"there is no Dockerfile {path}")
        specific = path.with_name(f"{path.name}.dockerignore")
        inside = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
        if inside.startswith("../"):
            hidden = path.read_bytes()
        else:
            name = os.path.normpath(os.path.relpath(path, folder))
    text = _read(specific) if specific else None
    own = _read(folder / IGNORE)
    effective = own if text is None else text
    sent = text
    if hidden is not None:
        sent = f"{effective or IGNORE}\n{HIDDEN}\n"
    rules = effective or ""
    return Context(folder, name, _patterns(rules), sent, hidden, rules)


def _patterns(text: str) -> tuple[Pattern, ...]:
    found = (patterns.parse(line) for line in text.splitlines())
    return tuple(pattern for pattern in found if pattern is not None)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None


@dataclass(frozen=True, slots=True)
class Listed:
    """A folder as a context that the engine may have already. `id` stands for what is in it now,
    by names, sizes and times: nothing is read. `source`: of which folder, by which rules."""

    folder: Path
    names: tuple[str, ...]
    id: str
    source: str


def list_folder(folder: Path, ignore: Sequence[Pattern], rules: str) -> Listed:
    """`rules`: the text that the patterns come from. Raises ClientError for what is no folder."""
    if not folder.is_dir():
        raise ClientError(f"the build context {folder} is not a folder")
    limit = time.time_ns() - _TICK
    checksum = hashlib.sha256()
    names = tuple(_names(folder, ignore, keep=()))
    newest = 0
    above = f"{folder}/"  # a Path for each of thousands of names takes as long as all the rest
    for name in names:
        found = os.lstat(above + name)
        newest = max(newest, found.st_ctime_ns)
        seen = (name, found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns,
                found.st_dev, found.st_ino)  # fmt: skip
        checksum.update(repr(seen).encode(errors="surrogateescape"))
    if newest > limit:  # it may change again within the same tick of the clock: no name for later
        checksum.update(os.urandom(16))
    source = hashlib.sha256(f"{folder}\n{rules}".encode(errors="surrogateescape"))
    return Listed(folder, names, checksum.hexdigest(), source.hexdigest())


def list_context(context: Context) -> Listed:
    return list_folder(context.folder, context.ignore, context.rules)


def own_rules(folder: Path) -> str:
    """What counts for an additional context: the text of its own .dockerignore."""
    return _read(folder / IGNORE) or ""


def list_named(folder: Path, rules: str) -> Listed:
    return list_folder(folder, _patterns(rules), rules)


async def listed_tar(listed: Listed) -> AsyncIterator[bytes]:
    def pieces() -> Iterator[bytes]:
        for name in listed.names:
            with contextlib.suppress(FileNotFoundError):  # gone since it was listed
                yield from _member(listed.folder, name)
        yield b"\0" * 1024

    async for piece in _together(pieces()):
        yield piece


async def dockerfile_tar(context: Context) -> AsyncIterator[bytes]:
    """The Dockerfile alone, and what it ignores: that counts for its checks."""
    text = context.hidden
    if text is None:
        text = (context.folder / context.dockerfile).read_bytes()
    made = [*_made(context.dockerfile, text)]
    if context.rules:
        made += _made(IGNORE, context.rules.encode(errors="surrogateescape"))
    yield b"".join((*made, b"\0" * 1024))


async def context_tar(context: Context) -> AsyncIterator[bytes]:
    """No more than a piece of it is in memory."""
    async for piece in _together(_pieces(context)):
        yield piece


async def _together(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(_next, pieces):
        yield piece


def _next(pieces: Iterator[bytes]) -> bytes:
    """Small ones travel together."""
    gathered: list[bytes] = []
    size = 0
    for piece in pieces:
        gathered.append(piece)
        size += len(piece)
        if size >= PIECE:
            break
    return b"".join(gathered)


def context_files(context: Context) -> Iterator[str]:
    """Names in the folder that are sent, sorted, folders before what is in them."""
    return _names(context.folder, context.ignore, keep=(context.dockerfile, IGNORE))


def _pieces(context: Context) -> Iterator[bytes]:
    for name in context_files(context):
        if name == IGNORE and context.ignore_text is not None:
            continue
        yield from _member(context.folder, name)
    if context.ignore_text is not None:
        yield from _made(IGNORE, context.ignore_text.encode(errors="surrogateescape"))
    if context.hidden is not None:
        yield from _made(context.dockerfile, context.hidden)
    yield b"\0" * 1024


def _names(folder: Path, ignore: Sequence[Pattern], keep: Sequence[str]) -> Iterator[str]:
    """Sorted, folders before what is in them."""
    takes_back = any(pattern.takes_back for pattern in ignore)
    waiting = [""]
    while waiting:
        path = waiting.pop()
        with os.scandir(folder / path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        below: list[str] = []
        for entry in found:
            name = f"{path}/{entry.name}" if path else entry.name
            ignored = patterns.matches(ignore, name) and name not in keep
            if entry.is_dir(follow_symlinks=False):
                holds_kept = any(one.startswith(f"{name}/") for one in keep)
                if not ignored or takes_back or holds_kept:
                    below.append(name)
            if not ignored:
                yield name
        waiting += reversed(below)


def _member(folder: Path, name: str) -> Iterator[bytes]:
    path = folder / name
    found = path.lstat()
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    if stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif stat.S_ISREG(found.st_mode):
        info.size = found.st_size
    else:
        return  # sockets, FIFOs and devices are no files to copy
    yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
    if stat.S_ISREG(found.st_mode):
        yield from _content(path, found.st_size)


def _content(path: Path, size: int) -> Iterator[bytes]:
    """Exactly as much as was announced, also of a file that changes meanwhile."""
    left = size
    with open(path, "rb", buffering=0) as stream:
        while left and (chunk := stream.read(min(left, PIECE))):
            left -= len(chunk)
            yield chunk
    yield b"\0" * (left + -size % 512)


def _made(name: str, content: bytes) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.mode, info.size = 0o644, len(content)
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield content + b"\0" * (-len(content) % 512)
