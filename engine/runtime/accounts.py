"""Who a user is in a container: by its own account files, whatever lies in their place."""

import errno
import os
import stat

from engine.kernel import mount
from engine.kernel.libc import KernelError
from engine.runtime import users

_LONGEST_FILE = 8 << 20  # bytes of passwd or group (CVE-2024-9676)


def find(user: str, groups: tuple[str, ...], root: str) -> users.Identity:
    """The identity of `user` by the files below `root`. Raises UnknownUser."""
    descriptor = mount.open_by_name(root, os.O_PATH | os.O_DIRECTORY)
    try:
        return find_below(descriptor, user, groups)
    finally:
        os.close(descriptor)


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
