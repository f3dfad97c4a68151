"""Where a mount goes, always by descriptor: found, or made, below the container's root."""

import errno
import os
import posixpath
import stat

from engine.kernel import mount
from engine.kernel.libc import KernelError
from engine.runtime.steps import Refused

# Files that lxcfs and its like put over those of procfs; nothing else may be mounted there.
_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in [
        "cpuinfo",
        "diskstats",
        "meminfo",
        "stat",
        "swaps",
        "uptime",
        "loadavg",
        "slabinfo",
        "net/dev",
        "sys/kernel/ns_last_pid",
        "sys/crypto/fips_enabled",
    ]
)


def make_target(
    root: int, path: str, *, directory: bool, links: bool = True, owner: tuple[int, int] = (0, 0)
) -> int:
    """A descriptor for the mount point `path` below `root`, made for `owner` if it isn't there.

    Links are followed as inside the container. Raises Refused for places that no mount may
    cover.
    """
    resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_MAGICLINKS
    if not links:
        resolve |= mount.RESOLVE_NO_SYMLINKS
    try:
        target = mount.openat2(root, path, os.O_PATH, resolve=resolve)
    except KernelError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR) and not links:
            raise Refused(f"{path} must be mounted on ordinary directory") from None
        if error.errno != errno.ENOENT:
            raise
        target = _create_target(root, path, owner, directory=directory)
    if links:
        _check_target(root, target, path)
    return target


def _check_target(root: int, target: int, path: str) -> None:
    found, top = os.fstat(target), os.fstat(root)
    problem = ""
    if (found.st_dev, found.st_ino) == (top.st_dev, top.st_ino):
        problem = f"invalid mount target {path!r}: it is the container's root"
    elif (
        mount.filesystem_type(target) == mount.PROC_SUPER_MAGIC
        and posixpath.normpath(path) not in _PROC_FILES
    ):
        problem = f"{path!r} cannot be mounted because it is inside /proc"
    if problem:
        os.close(target)
        raise Refused(problem)


def _create_target(root: int, path: str, owner: tuple[int, int], *, directory: bool) -> int:
    """Walk down and make what is missing, each part by the descriptor of the one above."""
    parts = [part for part in posixpath.normpath(f"/{path}").split("/") if part]
    for _ in range(40):  # as many links as the kernel follows
        depth = len(parts)
        while True:
            depth -= 1
            try:
                at = mount.open_in_root(root, "/" + "/".join(parts[:depth]))
                break
            except KernelError as error:
                if error.errno != errno.ENOENT or depth == 0:
                    raise
        try:
            while depth < len(parts):
                last = depth == len(parts) - 1
                _create_one(at, parts[depth], owner, directory=directory or not last)
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                below = os.open(parts[depth], flags, dir_fd=at)
                if stat.S_ISLNK(os.fstat(below).st_mode):
                    os.close(below)
                    leads_to = os.readlink(parts[depth], dir_fd=at)
                    break
                os.close(at)
                at = below
                depth += 1
            else:
                return os.dup(at)
        finally:
            os.close(at)
        # A link that dangles: what it names is made, inside the root.
        above = "/".join(parts[:depth])
        joined = posixpath.join(f"/{above}", leads_to, *parts[depth + 1 :])
        parts = [part for part in posixpath.normpath(joined).split("/") if part]
    raise KernelError("open", path, errno.ELOOP)


def _create_one(at: int, name: str, owner: tuple[int, int], *, directory: bool) -> None:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=at)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=at))
    except FileExistsError:
        return
    if owner != (0, 0):
        os.chown(name, *owner, dir_fd=at, follow_symlinks=False)
