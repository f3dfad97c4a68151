"""Mounts by descriptor: fsopen, open_tree, move_mount, mount_setattr, openat2, pivot_root.

Nothing here takes a path into a container as a string of the host: a target is a descriptor that
openat2 found below the container's root, so a link that is swapped meanwhile leads nowhere else.
"""

import contextlib
import ctypes
import errno
import os
import re
import struct
from collections.abc import Iterator, Sequence
from functools import cache

from engine.kernel.libc import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    KernelError,
    check,
    function,
    system_call,
)

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70  # the mask over the four choices below
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x200000
_MOUNT_ATTR_IDMAP = 0x100000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20

MNT_DETACH = 2

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PROC_SUPER_MAGIC = 0x9FA0
TMPFS_MAGIC = 0x01021994
SYSFS_MAGIC = 0x62656572
NSFS_MAGIC = 0x6E736673
DEVPTS_SUPER_MAGIC = 0x1CD1

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
OPEN_TREE_CLONE = 1
MOVE_MOUNT_EMPTY_PATHS = 0x4 | 0x40  # F_EMPTY_PATH | T_EMPTY_PATH
_MOVE_MOUNT_BENEATH = 0x200
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

_mount = function(
    "mount",
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)
_umount2 = function("umount2", ctypes.c_char_p, ctypes.c_int)
_fstatfs = function("fstatfs", ctypes.c_int, ctypes.c_void_p)


def openat2(directory: int, path: str, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    while True:
        try:
            return system_call("openat2", directory, os.fsencode(path), how, len(how), path=path)
        except KernelError as error:
            # The kernel asks to try again when something was renamed during the walk.
            if error.errno != errno.EAGAIN:
                raise


def open_in_root(root: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor for `path` as a process with its root at `root` would find it."""
    return openat2(root, path, flags, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def knows_filesystem(kind: str) -> bool:
    """Whether the kernel has it. The question loads its module, as a mount would."""
    try:
        os.close(system_call("fsopen", os.fsencode(kind), FSOPEN_CLOEXEC, path=kind))
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


def make_filesystem(
    kind: str, source: str, options: tuple[tuple[str, str | None], ...], attributes: int
) -> int:
    """A new file system as a detached mount. An option with the value None is a flag."""
    context = system_call("fsopen", os.fsencode(kind), FSOPEN_CLOEXEC, path=kind)
    try:
        if source:
            _configure(context, kind, "source", source)
        for key, value in options:
            _configure(context, kind, key, value)
        try:
            system_call("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0, path=kind)
            return system_call("fsmount", context, FSMOUNT_CLOEXEC, attributes, path=kind)
        except KernelError as error:
            raise _explained(error, context) from None
    finally:
        os.close(context)


def make_overlay(lowers: Sequence[str], more: tuple[tuple[str, str | None], ...]) -> int:
    """An overlay as a detached mount, `lowers` top first (before Linux 6.7: EINVAL).

    overlayfs refuses a layer that lies inside of another one (ELOOP), as those of an image built
    on `/` do. The host's directory, the last two with the mask over it, then becomes an overlay of
    its own, in which no other layer lies.
    """
    try:
        return make_filesystem(*overlay(lowers, more), 0)
    except KernelError as error:
        if error.errno != errno.ELOOP or len(lowers) < 3:
            raise
    with folded(lowers) as names:
        return make_filesystem(*overlay(names, more), 0)


@contextlib.contextmanager
def folded(lowers: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """The same layers, the last two as one; for as long as the block lasts."""
    below = make_filesystem(*overlay(lowers[-2:], ()), 0)
    try:
        yield (*lowers[:-2], f"/proc/self/fd/{below}")
    finally:
        os.close(below)


def is_nested(lowers: Sequence[str]) -> bool:
    """Whether `make_overlay` will have to fold these."""
    *others, _, host = ("", "", *lowers)
    return any(lower.startswith(f"{host.rstrip('/')}/") for lower in others)


@cache
def knows_lowers() -> bool:
    """Whether overlayfs takes its layers one by one (`lowerdir+`, Linux 6.7). One that does though
    it has an older number does without, too."""
    numbers = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (6, 7)


def overlay_options(lowers: Sequence[str], more: tuple[tuple[str, str], ...]) -> str:
    """For `mount_overlay_classic`."""
    options = (("lowerdir", ":".join(lowers)), *more)
    return ",".join(f"{key}={value}" for key, value in options)


def overlay(
    lowers: Sequence[str], more: tuple[tuple[str, str | None], ...]
) -> tuple[str, str, tuple[tuple[str, str | None], ...]]:
    """What `make_filesystem` makes one of: kind, source, options."""
    return "overlay", "overlay", (*(("lowerdir+", lower) for lower in lowers), *more)


def _configure(context: int, kind: str, key: str, value: str | None) -> None:
    about = f"{kind}, {key}" if value is None else f"{kind}, {key}={value}"
    try:
        if value is None:
            system_call(
                "fsconfig", context, FSCONFIG_SET_FLAG, os.fsencode(key), None, 0, path=about
            )
        else:
            system_call(
                "fsconfig",
                context,
                FSCONFIG_SET_STRING,
                os.fsencode(key),
                os.fsencode(value),
                0,
                path=about,
            )
    except KernelError as error:
        raise _explained(error, context) from None


def _explained(error: KernelError, context: int) -> KernelError:
    """The error with the kernel's own words about it, which wait in the context's log."""
    try:
        words = os.read(context, 4096).decode(errors="replace").strip()
    except OSError:  # ENODATA: the file system has nothing to add
        return error
    return KernelError(error.call, f"{error.path}: {words[2:]}", error.errno or errno.EIO)


def clone_tree(directory: int, path: str, *, recursive: bool) -> int:
    """A detached copy of the mount at `path` (of `directory` itself if empty): half a bind."""
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | AT_EMPTY_PATH
    if recursive:
        flags |= AT_RECURSIVE
    return system_call("open_tree", directory, os.fsencode(path), flags, path=path)


def clone_below(top: int, path: str, *, recursive: bool) -> int:
    """The same of a path below the descriptor `top`, that no link leads out of."""
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
    found = openat2(top, path, os.O_PATH, resolve=resolve)
    try:
        return clone_tree(found, "", recursive=recursive)
    finally:
        os.close(found)


def move_mount(mount: int, target: int, *, path: str = "", beneath: bool = False) -> None:
    """Attach a detached mount on what the descriptor `target` stands for; or `beneath` the mount
    there, which hides it until it is gone (Linux 6.5; EINVAL before)."""
    flags = MOVE_MOUNT_EMPTY_PATHS | (_MOVE_MOUNT_BENEATH if beneath else 0)
    system_call("move_mount", mount, b"", target, b"", flags, path=path)


def mount_setattr(
    mount: int,
    *,
    set_attributes: int = 0,
    clear: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    path: str = "",
) -> None:
    """Change a mount (with `recursive` all below it too). A change of the access times clears
    the whole choice first, as the kernel wants it."""
    wanted = attributes(set_attributes, clear, propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    system_call("mount_setattr", mount, b"", flags, wanted, len(wanted), path=path)


def attributes(set_attributes: int, clear: int, propagation: int) -> bytes:
    """struct mount_attr"""
    if set_attributes & MOUNT_ATTR_ATIME:
        clear |= MOUNT_ATTR_ATIME
    return struct.pack("=QQQQ", set_attributes, clear, propagation, 0)


def show_owners(
    mount: int, user_namespace: int, *, recursive: bool = False, path: str = ""
) -> None:
    """Files of a detached mount are shown, and written, with the ids that they have by the mapping
    of this user namespace."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    system_call("mount_setattr", mount, b"", flags, attributes, len(attributes), path=path)


def set_propagation(path: str, propagation: int) -> None:
    """MS_PRIVATE and its like on `path` and all below."""
    target = os.fsencode(path)
    check(_mount(None, target, None, propagation | MS_REC, None), "mount", path)


def mount_overlay_classic(target: int, options: str, attributes: int) -> None:
    """The overlay by mount(2), for kernels without `lowerdir+` (before 6.7)."""
    path = f"/proc/self/fd/{target}"
    check(
        _mount(b"overlay", os.fsencode(path), b"overlay", attributes, os.fsencode(options)),
        "mount",
        f"overlay, {options}",
    )


def pivot_root(new_root: str, put_old: str) -> None:
    system_call("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def umount(path: str, flags: int = 0) -> None:
    check(_umount2(os.fsencode(path), flags), "umount2", path)


def filesystem_type(descriptor: int) -> int:
    """The magic number of the file system that `descriptor` lies on (statfs f_type)."""
    buffer = ctypes.create_string_buffer(128)
    check(_fstatfs(descriptor, buffer), "fstatfs")
    magic: int = struct.unpack_from("=q", buffer.raw)[0]
    return magic & 0xFFFFFFFF


def open_by_name(path: str, flags: int = os.O_PATH) -> int:
    """A descriptor for a path of the host."""
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", path, error.errno or errno.EIO) from None
