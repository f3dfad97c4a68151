"""What a container changed in its root file system: a walk over its writable overlay layer."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from engine.containers.model import Change

MODIFIED, ADDED, DELETED = 0, 1, 2


def changes_of(upper: str, lowers: Sequence[str]) -> tuple[Change, ...]:
    """Sorted by path. Links are never followed: the tree belongs to the container."""
    return tuple(sorted(_walk(upper, "", lowers), key=lambda change: change.path))


def without_mount_points(
    changes: Sequence[Change], upper: str, lowers: Sequence[str], targets: Iterable[str]
) -> tuple[Change, ...]:
    """Without the empty files and directories at `targets`, and the folders that were copied up
    or made for nothing else."""
    kept = {change.path: change.kind for change in changes}
    folders_left = {os.path.dirname(path) for path in kept}
    for target in sorted(targets, key=len, reverse=True):
        path = target
        while path in kept and path not in folders_left:
            if not _is_mere_place(upper, path, kept[path], lowers):
                break
            del kept[path]
            folders_left = {os.path.dirname(path) for path in kept}
            path = os.path.dirname(path)
    return tuple(Change(path, kind) for path, kind in kept.items())


def _is_mere_place(upper: str, path: str, kind: int, lowers: Sequence[str]) -> bool:
    """Of a path below which nothing else was changed."""
    status = os.lstat(f"{upper}{path}")
    if kind == ADDED:
        empty_file = stat.S_ISREG(status.st_mode) and not status.st_size
        return empty_file or stat.S_ISDIR(status.st_mode)
    if kind == DELETED or not stat.S_ISDIR(status.st_mode) or _is_opaque(f"{upper}{path}"):
        return False
    below = next(os.lstat(f"{lower}{path}") for lower in lowers if _exists(lower, path))
    return (status.st_mode, status.st_uid, status.st_gid) == (
        below.st_mode,
        below.st_uid,
        below.st_gid,
    )


def _walk(upper: str, folder: str, lowers: Sequence[str]) -> Iterator[Change]:
    for entry in os.scandir(f"{upper}{folder}"):
        path = f"{folder}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        if _is_whiteout(status):
            yield Change(path, DELETED)
            continue
        below = [] if _is_opaque(f"{upper}{folder}") else lowers
        existed = any(_exists(lower, path) for lower in below)
        yield Change(path, MODIFIED if existed else ADDED)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(upper, path, below)


def _is_whiteout(status: os.stat_result) -> bool:
    # overlayfs.rst, "whiteouts and opaque directories": a character device 0:0.
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _exists(lower: str, path: str) -> bool:
    """Component by component: a link on the way leads out of the layer."""
    current = lower
    names = path.strip("/").split("/")
    for index, name in enumerate(names):
        current = f"{current}/{name}"
        try:
            status = os.lstat(current)
        except OSError:
            return False
        if _is_whiteout(status):
            return False
        if index < len(names) - 1 and not stat.S_ISDIR(status.st_mode):
            return False
    return True
