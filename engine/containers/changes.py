"""What a container changed in its root file system: a walk over its writable overlay layer."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

from engine.containers.model import Change
from engine.oci.rootfs import MOUNTS

MODIFIED, ADDED, DELETED = 0, 1, 2


def changes_of(upper: str, lowers: Sequence[str]) -> tuple[Change, ...]:
    """Sorted by path. Links are never followed: the tree belongs to the container."""
    return tuple(sorted(_walk(upper, "", lowers), key=lambda change: change.path))


def without_mount_points(
    changes: Sequence[Change], upper: str, lowers: Sequence[str], targets: Iterable[str]
) -> tuple[Change, ...]:
    """Without the empty files and directories, and the links to what is mounted, at `targets`, and
    the folders that were copied up or made for nothing else."""
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
        if stat.S_ISLNK(status.st_mode):
            return os.readlink(f"{upper}{path}") == MOUNTS
        empty_file = stat.S_ISREG(status.st_mode) and not status.st_size
        return empty_file or stat.S_ISDIR(status.st_mode)
    if kind == DELETED or not stat.S_ISDIR(status.st_mode) or _is_opaque(f"{upper}{path}"):
        return False
    below = _find(lowers, path)
    return below is not None and (status.st_mode, status.st_uid, status.st_gid) == (
        below.st_mode,
        below.st_uid,
        below.st_gid,
    )


def _walk(
    upper: str, folder: str, lowers: Sequence[str], *, is_hidden: bool = False
) -> Iterator[Change]:
    """`is_hidden`: what the image has in this folder doesn't show through."""
    is_hidden = is_hidden or _is_opaque(f"{upper}{folder}")
    with os.scandir(f"{upper}{folder}") as listing:
        entries = list(listing)
    if is_hidden:
        for name in sorted(_names(lowers, folder) - {entry.name for entry in entries}):
            yield Change(f"{folder}/{name}", DELETED)
    for entry in entries:
        path = f"{folder}/{entry.name}"
        if _is_whiteout(entry.stat(follow_symlinks=False)):
            yield Change(path, DELETED)
            continue
        yield Change(path, MODIFIED if _find(lowers, path) else ADDED)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(upper, path, lowers, is_hidden=is_hidden)


def _is_whiteout(status: os.stat_result) -> bool:
    # overlayfs.rst, "whiteouts and opaque directories": a character device 0:0.
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _find(lowers: Sequence[str], path: str) -> os.stat_result | None:
    """What the layers, the topmost first, show at `path`. Component by component: a link on the
    way leads out of the layer."""
    for lower in lowers:
        current, is_opaque = lower, False
        status = None
        for name in path.strip("/").split("/"):
            if status is not None:
                if not stat.S_ISDIR(status.st_mode):
                    return None
                is_opaque = is_opaque or _is_opaque(current)
            current = f"{current}/{name}"
            try:
                status = os.lstat(current)
            except OSError:
                break
            if _is_whiteout(status):
                return None
        else:
            return status
        if is_opaque:
            return None
    return None


def _names(lowers: Sequence[str], folder: str) -> set[str]:
    """What the layers show in `folder`."""
    names: set[str] = set()
    for lower in lowers:
        status = _find([lower], folder)
        if status is not None and stat.S_ISDIR(status.st_mode):
            names |= set(os.listdir(f"{lower}{folder}"))
    return {name for name in names if _find(lowers, f"{folder}/{name}")}
