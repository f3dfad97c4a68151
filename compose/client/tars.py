"""Files of this machine <-> tars, for `cp`. What comes from a container is not trusted: no name
and no link in a tar leads out of the place that was asked for."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from compose.errors import UsageError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20


def pack(stream: IO[bytes], source: Path, name: str, *, follow: bool) -> None:
    """`source`, with all below it, under `name`; "" is what is in it. `follow`: what a link at
    the top leads to, instead of the link. Owners, modes and times as they are here."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        if name:
            tar.add(source.resolve() if follow else source, arcname=name)
        else:
            for child in sorted(os.listdir(source)):
                tar.add(source / child, arcname=child)


def unpack(stream: IO[bytes], folder: Path, name: str, *, owners: bool) -> None:
    """Below `folder`, which exists; the first part of each name becomes `name`, or is left out
    where that is "". `owners`: give files to the ids that they have in the tar.

    Raises UsageError for a tar that would write elsewhere, or what is in the way."""
    with contextlib.ExitStack() as undo:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, top)
        tar = undo.enter_context(tarfile.open(fileobj=stream, mode="r:"))
        late: list[tuple[tuple[str, ...], tarfile.TarInfo]] = []
        for member in tar:
            parts = _parts(member.name, name)
            if parts:
                _unpack_member(top, tar, member, parts, name, owners=owners)
            if member.isdir():
                late.append((parts, member))
        # Last, and the deepest first: a folder may be closed to writing, and files change its time.
        for parts, member in reversed(late):
            if parts:
                with _inside(top, parts) as directory:
                    _finish(directory, member, owners=owners)


def _parts(path: str, name: str) -> tuple[str, ...]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise UsageError(f"refused {path!r} in the container's archive: it leads elsewhere")
    return (*((name,) if name else ()), *parts[1:])


@contextlib.contextmanager
def _inside(top: int, parts: tuple[str, ...]) -> Iterator[int]:
    """The open folder `parts` below `top`, made where it is missing. Never through a link."""
    current = os.dup(top)
    try:
        for part in parts:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=current)
            try:
                deeper = os.open(part, _DIRECTORY, dir_fd=current)
            except OSError as error:
                raise UsageError(f"cannot copy into {'/'.join(parts)}: {error.strerror}") from error
            os.close(current)
            current = deeper
        yield current
    finally:
        os.close(current)


def _unpack_member(
    top: int,
    tar: tarfile.TarFile,
    member: tarfile.TarInfo,
    parts: tuple[str, ...],
    name: str,
    *,
    owners: bool,
) -> None:
    if member.isdir():
        with _inside(top, parts):
            return
    with _inside(top, parts[:-1]) as folder:
        leaf = parts[-1]
        _make_room(folder, leaf, "/".join(parts))
        if member.issym():
            os.symlink(member.linkname, leaf, dir_fd=folder)
            if owners:
                os.chown(leaf, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
        elif member.islnk():
            source = _parts(member.linkname, name)
            with _inside(top, source[:-1]) as other:
                os.link(
                    source[-1], leaf, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False
                )
        elif member.isreg():
            content = tar.extractfile(member)
            assert content is not None
            descriptor = os.open(leaf, _NEW_FILE, 0o600, dir_fd=folder)
            with open(descriptor, "wb") as written:
                while block := content.read(_BLOCK):
                    written.write(block)
                written.flush()
                _finish(descriptor, member, owners=owners)
        else:
            raise UsageError(f"cannot copy {'/'.join(parts)}: it is a device, a pipe or a socket")


def _make_room(folder: int, leaf: str, shown: str) -> None:
    try:
        found = os.lstat(leaf, dir_fd=folder)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise UsageError(f"cannot overwrite {shown}: it is a folder here, not one there")
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
        # As root it would be gone for the whole machine: cp web:/file /dev/null
        raise UsageError(f"cannot overwrite {shown}: it is a device, a pipe or a socket")
    os.unlink(leaf, dir_fd=folder)


def _finish(descriptor: int, member: tarfile.TarInfo, *, owners: bool) -> None:
    if owners:
        os.fchown(descriptor, member.uid, member.gid)
    # Programs that change who runs them are only for who takes their owners over, too.
    os.fchmod(descriptor, member.mode & (0o7777 if owners else 0o777))
    os.utime(descriptor, (member.mtime, member.mtime))
