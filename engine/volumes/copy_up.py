"""Copies a directory of an image into a volume: owners, modes, times, links, extended attributes.

Both trees are walked by descriptors, component by component; a link is copied, never followed. An
interrupted copy can be taken up again: a file gets its name when it is whole, and what is there
already stays.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from engine.kernel.libc import KernelError
from engine.kernel.mount import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, open_in_root, openat2

TEMPORARY = ".pycompose-copy-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 22
_KEPT_XATTRS = ("security.capability", "system.posix_acl_access", "system.posix_acl_default")


@dataclass(slots=True)
class _Copy:
    source: int
    target: int
    # (device, inode) of a file with several names -> where its copy is
    links: dict[tuple[int, int], tuple[str, ...]] = field(default_factory=dict)
    # folders to be done with: path, and the attributes that it gets once it is filled
    waiting: list[tuple[str, ...]] = field(default_factory=list)


def copy_directory(root: int, path: str, target: int) -> bool:
    """Copy the content of `path` below the descriptor `root` into the directory of `target`.

    Links on the way to `path` resolve inside the root. False if there is no such directory.
    """
    source = _opened(root, path)
    if source is None:
        return False
    try:
        _copy_tree(_Copy(source, target))
        copy_attributes(source, target)
    finally:
        os.close(source)
    return True


def is_directory(root: int, path: str) -> bool:
    source = _opened(root, path)
    if source is None:
        return False
    os.close(source)
    return True


def _opened(root: int, path: str) -> int | None:
    try:
        return open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


def _copy_tree(copy: _Copy) -> None:
    copy.waiting.append(())
    done: list[tuple[str, ...]] = []
    while copy.waiting:
        path = copy.waiting.pop()
        done.append(path)
        with _folder(copy.source, path) as source, _folder(copy.target, path) as target:
            with os.scandir(source) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                _copy_entry(copy, source, target, (*path, name))
    # Children before parents: an entry made in a folder changes its time.
    for path in reversed(done[1:]):
        with _folder(copy.source, path) as source, _folder(copy.target, path) as target:
            copy_attributes(source, target)


def _copy_entry(copy: _Copy, source: int, target: int, path: tuple[str, ...]) -> None:
    name = path[-1]
    found = os.lstat(name, dir_fd=source)
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFDIR:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=target)
        copy.waiting.append(path)
        return
    if kind == stat.S_IFSOCK or (kind == stat.S_IFCHR and found.st_rdev == 0):
        return  # nobody listens to a copy; and what only hides something has nothing to hide here
    if _exists(name, target):
        return
    known = copy.links.get((found.st_dev, found.st_ino))
    if known is not None:
        with _folder(copy.target, known[:-1]) as folder:
            os.link(known[-1], name, src_dir_fd=folder, dst_dir_fd=target, follow_symlinks=False)
        return
    if found.st_nlink > 1:
        copy.links[found.st_dev, found.st_ino] = path
    temporary = TEMPORARY + secrets.token_hex(8)
    try:
        if kind == stat.S_IFREG:
            _copy_file(source, name, target, temporary)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), temporary, dir_fd=target)
            _own(target, temporary, found)
        else:
            os.mknod(temporary, kind | 0o600, found.st_rdev, dir_fd=target)
            _own(target, temporary, found)
        os.rename(temporary, name, src_dir_fd=target, dst_dir_fd=target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=target)
        raise


def _copy_file(source: int, name: str, target: int, temporary: str) -> None:
    # Not blocking: a FIFO may have taken the name since.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    reader = os.open(name, flags, dir_fd=source)
    try:
        if not stat.S_ISREG(os.fstat(reader).st_mode):
            raise KernelError("open", name, errno.ESTALE)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        writer = os.open(temporary, flags, 0o600, dir_fd=target)
        try:
            _copy_content(reader, writer)
            copy_attributes(reader, writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _copy_content(reader: int, writer: int) -> None:
    """Pieces of data only: holes stay holes."""
    size = os.fstat(reader).st_size
    position = 0
    while position < size:
        try:
            start = os.lseek(reader, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # nothing but a hole up to the end
                raise
            break
        end = os.lseek(reader, start, os.SEEK_HOLE)
        os.lseek(writer, start, os.SEEK_SET)
        offset = start
        while offset < end:
            sent = os.sendfile(writer, reader, offset, min(end - offset, _CHUNK))
            if not sent:
                break
            offset += sent
        position = end
    os.ftruncate(writer, size)


def copy_attributes(source: int, target: int) -> None:
    found = os.fstat(source)
    # Owner first: a change of it clears setuid bits and file capabilities.
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for key in os.listxattr(source):
        if key.startswith("user.") or key in _KEPT_XATTRS:
            try:
                os.setxattr(target, key, os.getxattr(source, key))
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def _own(target: int, name: str, found: os.stat_result) -> None:
    """Owner, mode and times of a link or a node, neither opened nor followed."""
    os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
    times = (found.st_atime_ns, found.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=target)
        try:
            if stat.S_IFMT(os.fstat(descriptor).st_mode) == stat.S_IFMT(found.st_mode):
                os.chmod(f"/proc/self/fd/{descriptor}", stat.S_IMODE(found.st_mode))
        finally:
            os.close(descriptor)


def _exists(name: str, folder: int) -> bool:
    try:
        os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _folder(root: int, path: tuple[str, ...]) -> Iterator[int]:
    descriptor = openat2(
        root, "/".join(path) or ".", _DIRECTORY, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
    )
    try:
        yield descriptor
    finally:
        os.close(descriptor)
