"""File systems of volumes, mounted on the host as long as a container that uses them runs.

One instance; its calls come one after the other for each volume. A mount outlives the daemon, as
its containers do.
"""

import os
import socket

from engine.kernel.mount import MNT_DETACH, make_filesystem, move_mount, umount
from engine.runtime.sequence import mount_options
from engine.volumes.model import FileSystem


def is_mounted(path: str) -> bool:
    return os.path.ismount(path)


def mount_filesystem(wanted: FileSystem, path: str) -> None:
    """Raises OSError with the kernel's own words."""
    options = mount_options(wanted.options)
    rest = tuple((key, _resolved(wanted.type, key, value)) for key, value in options.rest)
    if wanted.type == "nfs4":
        # mount(2) means it by this name; fsconfig(2) starts from version 3. Later ones win.
        rest = (("vers", "4"), *rest)
    target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        tree = make_filesystem(wanted.type, wanted.device, rest, options.set_attributes)
        try:
            move_mount(tree, target, path=path)
        finally:
            os.close(tree)
    finally:
        os.close(target)


def _resolved(kind: str, key: str, value: str | None) -> str | None:
    """The kernel takes no host names: mount.nfs and mount.cifs look them up. IPv4 comes first, as
    in Docker."""
    if key != "addr" or value is None or not kind.startswith(("nfs", "cifs")):
        return value
    found = socket.getaddrinfo(value, None, proto=socket.IPPROTO_TCP)
    return str(min(found, key=lambda each: each[0] is not socket.AF_INET)[4][0])


def unmount(path: str) -> None:
    """Lazily: a file that is open there keeps nobody from removing the volume."""
    umount(path, MNT_DETACH)
