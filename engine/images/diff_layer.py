"""What a container or a build step changed, as a layer: the upper directory of its overlay.

overlayfs marks what is gone by a device 0:0 and an attribute; a layer's tar has files named
`.wh.…` (image-spec, layer.md "Whiteouts"). What only the runtime put there, empty places to mount
on, is no change and is taken out first.
"""

import os
import posixpath
import stat
from collections.abc import Collection, Iterable, Sequence

from engine.errors import Failure
from engine.images.pack import Packing, Sink, opened, pack_one
from engine.images.tar_reader import Kind, Member
from engine.images.tar_writer import END, member_head
from engine.images.unpack import OPAQUE, OPAQUE_MARK, WHITEOUT
from engine.kernel.libc import KernelError
from engine.kernel.mount import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from engine.oci.rootfs import MARK, MOUNT_TABLE, MOUNTS

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REDIRECT = "trusted.overlay.redirect"
# What the runtime mounts in every container, whatever it is told (see containers/spec.py), and
# the files that it makes in them.
MOUNT_POINTS = (
    *("/proc", "/sys", "/sys/fs/cgroup", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm"),
    *("/dev/console", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"),
    *(MARK, MOUNT_TABLE),
)


def pack_changes(upper: int, sink: Sink, *, without: Collection[str] = ()) -> int:
    """The tar of a layer, from the descriptor of an upper directory; the bytes of its files.
    Nothing but its end where nothing was changed. `without`: paths that are left out, with all
    below them. Raises OSError, Failure."""
    size = 0
    packing = Packing(sink)
    waiting = [""]
    while waiting:
        path = waiting.pop()
        folders = []
        with opened(upper, path) as folder:
            if _is_opaque(folder, path):
                sink(_mark(posixpath.join(path, OPAQUE_MARK)))
            for name in sorted(os.listdir(folder)):
                below = f"{path}/{name}" if path else name
                if below in without:
                    continue
                found = os.lstat(name, dir_fd=folder)
                if is_whiteout(found):
                    sink(_mark(posixpath.join(path, WHITEOUT + name)))
                    continue
                if stat.S_ISREG(found.st_mode):
                    size += found.st_size
                if pack_one(packing, folder, name, below, found):
                    folders.append(below)
        waiting += reversed(folders)
    sink(END)
    return size


def has_changes(upper: int) -> bool:
    return bool(os.listdir(upper))


def is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def drop_mount_points(upper: int, lowers: Sequence[str], targets: Iterable[str]) -> None:
    """Remove empty files and directories, and links to what is mounted, at `targets` that no
    layer below has, and the folders that are there for nothing else. `lowers`: directories of the
    layers below."""
    below = [os.open(lower, _DIRECTORY) for lower in lowers]
    try:
        for target in sorted(targets, key=len, reverse=True):
            parts = [part for part in target.split("/") if part not in ("", ".", "..")]
            while parts and _drop(upper, below, "/".join(parts)):
                parts.pop()
    finally:
        for descriptor in below:
            os.close(descriptor)


def _drop(upper: int, lowers: Sequence[int], path: str) -> bool:
    """Whether it is gone, or wasn't there."""
    folder, name = posixpath.split(path)
    try:
        with opened(upper, folder) as above:
            found = os.lstat(name, dir_fd=above)
            known = _lstat(lowers, path)
            if stat.S_ISDIR(found.st_mode):
                with opened(above, name) as own:
                    if os.listdir(own) or _is_opaque(own, path):
                        return False
                if known is not None and not _same_attributes(found, known):
                    return False
                os.rmdir(name, dir_fd=above)
                return True
            if known is not None or not _is_mere_place(above, name, found):
                return False
            os.unlink(name, dir_fd=above)
            return True
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        # Below a link, or somewhere that isn't a place to mount on any more.
        if error.errno is not None and stat.S_ISLNK(_mode(upper, folder)):
            return False
        raise


def _is_mere_place(folder: int, name: str, found: os.stat_result) -> bool:
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(name, dir_fd=folder) == MOUNTS
    return stat.S_ISREG(found.st_mode) and not found.st_size


def _mode(upper: int, path: str) -> int:
    try:
        return os.lstat(path or ".", dir_fd=upper).st_mode
    except OSError:
        return stat.S_IFLNK


def _lstat(lowers: Sequence[int], path: str) -> os.stat_result | None:
    """Of the topmost layer that has it; None where none has, or one says that it is gone."""
    for lower in lowers:
        try:
            flags = os.O_PATH | os.O_NOFOLLOW
            found = openat2(lower, path, flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except KernelError:
            continue
        try:
            attributes = os.fstat(found)
        finally:
            os.close(found)
        return None if is_whiteout(attributes) else attributes
    return None


def _same_attributes(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def _is_opaque(folder: int, path: str) -> bool:
    attributes = os.listxattr(folder)
    if _REDIRECT in attributes:
        # Mounted with redirect_dir=on: what was renamed lies elsewhere in the layers below.
        raise Failure(f"cannot make a layer: {path!r} was renamed in a way that no layer can say")
    return OPAQUE in attributes and os.getxattr(folder, OPAQUE) == b"y"


def _mark(name: str) -> bytes:
    return member_head(Member(name, Kind.FILE, 0o600, 0, 0, 0, 0))
