"""Who a user is in a container: by its own account files, whatever lies in their place."""

import errno
import os
import stat
from collections.abc import Sequence

from engine.kernel import mount
from engine.kernel.libc import KernelError
from engine.runtime import users

# What overlayfs keeps with a file for itself, where users may mount it, too.
_OF_OVERLAYS = ("trusted.overlay.", "user.overlay.")
_SMALL = 65536  # bytes that can be read in passing
_LONGEST_FILE = 8 << 20  # bytes of passwd or group (CVE-2024-9676)
_WITHIN = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_XDEV | mount.RESOLVE_NO_SYMLINKS


def find(user: str, groups: tuple[str, ...], root: str) -> users.Identity:
    """The identity of `user` by the files below `root`. Raises UnknownUser."""
    descriptor = mount.open_by_name(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return find_below(descriptor, user, groups)
    finally:
        os.close(descriptor)


def find_near(user: str, groups: tuple[str, ...], root: str) -> users.Identity | None:
    """As `find`, where that holds nobody up: by small files of the root's own file system. None
    where it would have to look further, or finds nobody."""
    try:
        descriptor = mount.open_by_name(root, os.O_PATH | os.O_DIRECTORY)
        try:
            texts = [_read_near(descriptor, name) for name in ("passwd", "group")]
        finally:
            os.close(descriptor)
        return users.resolve(user, groups, *texts)
    except (OSError, users.UnknownUser):
        return None


def _read_near(root: int, name: str) -> str:
    """Raises OSError."""
    resolve = mount.RESOLVE_IN_ROOT | mount.RESOLVE_NO_XDEV | mount.RESOLVE_NO_MAGICLINKS
    path = f"/etc/{name}"
    try:
        handle = mount.openat2(root, path, os.O_PATH, resolve=resolve)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ""
        raise
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return ""
    finally:
        os.close(handle)
    return _text_near(root, path, resolve)


def _text_near(root: int, path: str, resolve: int) -> str:
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
    with open(mount.openat2(root, path, flags, resolve=resolve), "rb", buffering=0) as stream:
        content = stream.read(_SMALL + 1) or b""
    if len(content) > _SMALL:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return content.decode("utf-8", "surrogateescape")


def find_in_layers(
    user: str, groups: tuple[str, ...], layers: Sequence[str]
) -> users.Identity | None:
    """As `find_near`, by the directories of an overlay that is not mounted, top first."""
    try:
        return users.resolve(user, groups, *_read_in_layers(layers, ("passwd", "group")))
    except (OSError, users.UnknownUser):
        return None


def _read_in_layers(layers: Sequence[str], names: Sequence[str]) -> list[str]:
    """Raises OSError, also where it would take overlayfs to say what is there."""
    texts: dict[str, str] = {}
    for layer in layers:
        top = mount.open_by_name(layer, os.O_PATH | os.O_DIRECTORY)
        try:
            folder = mount.openat2(top, "etc", os.O_RDONLY | os.O_DIRECTORY, resolve=_WITHIN)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise  # a link, or what hides the folders below
            continue
        finally:
            os.close(top)
        try:
            hides = any(one.startswith(_OF_OVERLAYS) for one in os.listxattr(folder))
            for name in names:
                if name not in texts:
                    text = _read_in_layer(folder, name, hides=hides)
                    if text is not None:
                        texts[name] = text
        finally:
            os.close(folder)
        if len(texts) == len(names):
            break
    return [texts.get(name, "") for name in names]


def _read_in_layer(folder: int, name: str, *, hides: bool) -> str | None:
    """None where a layer below may have it. `hides`: this one may hide those. Raises OSError."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        if hides:
            raise
        return None
    if stat.S_ISCHR(found.st_mode) and not found.st_rdev:
        return ""  # it was removed
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    if any(one.startswith(_OF_OVERLAYS) for one in _attributes_of(folder, name)):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
    return _text_near(folder, name, _WITHIN)


def _attributes_of(folder: int, name: str) -> list[str]:
    return os.listxattr(f"/proc/self/fd/{folder}/{name}", follow_symlinks=False)


def find_below(root: int, user: str, groups: tuple[str, ...]) -> users.Identity:
    """The same by a descriptor of the root."""
    return users.resolve(user, groups, _read(root, "passwd"), _read(root, "group"))


def _read(root: int, name: str) -> str:
    """The text of /etc/`name`, "" where there is no such regular file: a pipe could hold us up, a
    device never end (CVE-2024-9676)."""
    try:
        handle = mount.open_in_root(root, f"/etc/{name}")
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return ""
        finally:
            os.close(handle)
        found = mount.open_in_root(root, f"/etc/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return ""
        raise
    with open(found, "rb", buffering=0) as stream:
        content = b""
        while piece := stream.read(1 << 16):
            content += piece
            if len(content) > _LONGEST_FILE:
                raise users.UnknownUser(
                    f"cannot read /etc/{name}: it is longer than {_LONGEST_FILE} bytes"
                )
    return content.decode("utf-8", "surrogateescape")
