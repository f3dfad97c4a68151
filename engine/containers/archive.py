"""Files in and out of a container (docker cp): what a path is, a tree as a tar, a tar unpacked.

All of it works below a descriptor of the container's root: /proc/PID/root of a running one, a view
made for the purpose (engine/kernel/overlay.py) of one at rest. Links resolve inside that root,
magic links nowhere. Nothing of the container is executed or loaded.
"""

import base64
import contextlib
import errno
import json
import os
import posixpath
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from engine.errors import Failure, InvalidRequest, NotFound
from engine.images.compression import Source, decompressed
from engine.images.pack import Packing, Sink, as_it_is, pack_entry, pack_tree
from engine.images.tar_reader import Kind, Member, TarReader
from engine.images.unpack import unpack_archive
from engine.kernel.libc import KernelError, told
from engine.kernel.mount import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, open_in_root, openat2
from engine.runtime.accounts import find_below
from engine.runtime.id_maps import IdMaps
from engine.runtime.users import UnknownUser

Result = TypeVar("Result")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV)

# Go's os.FileMode: its own bits above the permissions.
_GO_TYPES = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}
_GO_BITS = {stat.S_ISUID: 1 << 23, stat.S_ISGID: 1 << 22, stat.S_ISVTX: 1 << 20}


@dataclass(frozen=True, slots=True)
class PathStat:
    name: str
    size: int
    mode: int  # of stat(2)
    mtime: int  # nanoseconds
    link_target: str  # where a link leads, as an absolute path in the container


@dataclass(frozen=True, slots=True)
class _Place:
    """An entry by its folder: for the final component, which is not followed."""

    folder: int
    name: str  # "" for the folder itself
    shown: str  # the name that clients get to see


def stat_path(root: int, path: str, *, container: str) -> PathStat:
    """Raises NotFound in Docker's words; `container` as the client called it."""

    def describe(place: _Place) -> PathStat:
        found = _lstat(place)
        target = ""
        if stat.S_ISLNK(found.st_mode):
            target = _link_target(root, path)
        return PathStat(
            place.shown, found.st_size, found.st_mode, max(found.st_mtime_ns, 0), target
        )

    return _at(root, path, container, describe)


def read_archive(
    root: int, path: str, sink: Sink, *, container: str, ids: IdMaps | None = None
) -> None:
    """The entry at `path` as a tar: its first member has the path's base name. `ids`: owners are
    told as the container sees them. Of /dev, /proc and /sys it has the folders, as Docker: what is
    in them is the kernel's."""
    change = partial(_seen_inside, ids) if ids else as_it_is
    packing = Packing(sink, change, closed=_kernels_own(root))

    def pack(place: _Place) -> None:
        if place.name:
            pack_entry(packing, place.folder, place.name, place.shown)
        else:
            pack_tree(packing, place.folder, place.shown)

    _at(root, path, container, pack)


def _seen_inside(ids: IdMaps, member: Member) -> Member:
    return replace(member, uid=ids.inside_uid(member.uid), gid=ids.inside_gid(member.gid))


def _meant_outside(ids: IdMaps, member: Member) -> Member:
    return replace(member, uid=ids.uid(member.uid), gid=ids.gid(member.gid))


def write_archive(
    root: int,
    path: str,
    archive: Source,
    *,
    container: str,
    read_only: bool = False,
    keep_kinds: bool = False,
    owner: str = "",
    ids: IdMaps | None = None,
) -> None:
    """Unpack a tar, plain or compressed, into the directory at `path`. `owner`: who gets all of it,
    by the container's own account files; "" whom the tar says. `ids`: these are the container's,
    and what is written here takes the host's.

    `read_only`: the root is to be, though this view of it may not. `keep_kinds`: a directory never
    replaces something else, nor the other way round (noOverwriteDirNonDir).
    """
    try:
        descriptor = open_in_root(root, path, _DIRECTORY)
    except KernelError as error:
        if error.errno == errno.ENOTDIR and _exists(root, path):
            raise InvalidRequest("extraction point is not a directory") from None
        if error.errno == errno.ENOTDIR:
            raise _not_a_directory(path) from None
        if error.errno in _MISSING:
            raise _not_found(path, container) from None
        raise
    try:
        _refuse_read_only(root, descriptor, root_is_read_only=read_only)
        check = _kind_keeper(path) if keep_kinds else None
        owns = _owner(root, owner) if owner else as_it_is
        reader = TarReader(
            decompressed(archive),
            (lambda member: _meant_outside(ids, owns(member))) if ids else owns,
        )
        unpack_archive(reader, root, below=path, check=check)
    except OSError as error:
        raise Failure(f"cannot copy to container {container}: {told(error, path)}") from error
    finally:
        os.close(descriptor)


def _owner(root: int, user: str) -> Callable[[Member], Member]:
    try:
        identity = find_below(root, user, ())
    except UnknownUser as error:
        raise InvalidRequest(str(error)) from None
    return lambda member: replace(member, uid=identity.uid, gid=identity.gid)


def stat_header(found: PathStat) -> str:
    """X-Docker-Container-Path-Stat."""
    moment = datetime.fromtimestamp(found.mtime // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{found.mtime % 10**9:09d}".rstrip("0").rstrip(".")
    document = {
        "name": found.name,
        "size": found.size,
        "mode": go_mode(found.mode),
        "mtime": f"{moment}{fraction}Z",
        "linkTarget": found.link_target,
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def go_mode(mode: int) -> int:
    bits = sum(go for bit, go in _GO_BITS.items() if mode & bit)
    return mode & 0o777 | _GO_TYPES.get(stat.S_IFMT(mode), 0) | bits


def _at(root: int, path: str, container: str, work: Callable[[_Place], Result]) -> Result:
    """`work` on the entry at `path`, its final component not followed, unless the path says with
    a slash or dot at its end that it means what is in there."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    means_content = posixpath.basename(path.rstrip("/")) == "."
    follow = cleaned == "/" or path.endswith("/") or means_content
    folder, name = ("/", "") if cleaned == "/" else posixpath.split(cleaned)
    shown = "." if means_content else name or "/"
    try:
        descriptor = open_in_root(root, cleaned if follow else folder, _DIRECTORY)
        try:
            if not follow and os.fstat(descriptor).st_dev in _kernels_own(root):
                raise _not_found(path, container)
            return work(_Place(descriptor, "" if follow else name, shown))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise _not_a_directory(path) from None
        if error.errno in _MISSING:
            raise _not_found(path, container) from None
        raise Failure(f"cannot read {path} in container {container}: {told(error)}") from error


def _kernels_own(root: int) -> frozenset[int]:
    """The file systems on /dev, /proc and /sys of a container that runs, as `st_dev`: none of their
    files can be copied. Empty for one at rest, where nothing is mounted there."""
    found = set()
    for name in ("dev", "proc", "sys"):
        with contextlib.suppress(OSError):
            found.add(os.lstat(name, dir_fd=root).st_dev)
    return frozenset(found - {os.fstat(root).st_dev})


def _lstat(place: _Place) -> os.stat_result:
    if not place.name:
        return os.fstat(place.folder)
    return os.lstat(place.name, dir_fd=place.folder)


def _link_target(root: int, path: str) -> str:
    """Where the kernel ends up, said from the root; for a link to nowhere what the link says."""
    try:
        descriptor = open_in_root(root, path)
    except KernelError:
        flags = os.O_PATH | os.O_NOFOLLOW
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        link = openat2(root, path, flags, resolve=resolve)
        try:
            said = os.readlink("", dir_fd=link)
        finally:
            os.close(link)
        return posixpath.normpath(posixpath.join("/", posixpath.dirname(path), said))
    try:
        top, found = (
            os.readlink(f"/proc/self/fd/{root}"),
            os.readlink(f"/proc/self/fd/{descriptor}"),
        )
    finally:
        os.close(descriptor)
    return found if top == "/" else found.removeprefix(top) or "/"


def _refuse_read_only(root: int, directory: int, *, root_is_read_only: bool) -> None:
    is_root = os.fstat(directory).st_dev == os.fstat(root).st_dev
    if is_root and root_is_read_only:
        raise InvalidRequest("container rootfs is marked read-only")
    if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
        what = "container rootfs" if is_root else "mounted volume"
        raise InvalidRequest(f"{what} is marked read-only")


def _kind_keeper(path: str) -> Callable[[int, str, Member], None]:
    def check(folder: int, name: str, member: Member) -> None:
        try:
            found = os.lstat(name, dir_fd=folder)
        except FileNotFoundError:
            return
        was_folder, is_folder = stat.S_ISDIR(found.st_mode), member.kind is Kind.DIRECTORY
        if is_folder and not was_folder:
            raise Failure(f'cannot overwrite non-directory "{name}" with directory "{path}"')
        if was_folder and not is_folder:
            raise Failure(f'cannot overwrite directory "{name}" with non-directory "{path}"')

    return check


def _exists(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path))
    except KernelError:
        return False
    return True


def _not_a_directory(path: str) -> Failure:
    return Failure(f"lstat {posixpath.join('/', path)}: not a directory")


def _not_found(path: str, container: str) -> NotFound:
    return NotFound(f"Could not find the file {path} in container {container}")
