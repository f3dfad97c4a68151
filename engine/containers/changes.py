"""What a container changed in its root file system: a walk over its writable overlay layer."""

import os
import stat
from collections.abc import Iterator, Sequence

from engine.containers.model import Change

MODIFIED, ADDED, DELETED = 0, 1, 2


def changes_of(upper: str, lowers: Sequence[str]) -> tuple[Change, ...]:
    """Sorted by path. Links are never followed: the tree belongs to the container."""
    return tuple(sorted(_walk(upper, "", lowers), key=lambda change: change.path))


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
