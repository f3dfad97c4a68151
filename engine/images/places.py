"""The lowest layer of a container's root: the places that each container has by Docker's rule,
whatever its image, for what gets mounted there. What is there already need not be made in the
container's own layer, one file system transaction each, while its start waits.
"""

import os
import stat
from pathlib import Path

from engine.images.tar_reader import Kind
from engine.oci.rootfs import MARK, MOUNT_TABLE, MOUNTS

# Path, kind, what a link leads to; a folder comes before what is in it.
PLACES = (
    *((name, Kind.DIRECTORY, "") for name in ("dev", "dev/pts", "dev/shm", "etc", "proc", "sys")),
    *((name, Kind.FILE, "") for name in (MARK.lstrip("/"), "dev/console", "etc/hostname")),
    *((name, Kind.FILE, "") for name in ("etc/hosts", "etc/resolv.conf")),
    (MOUNT_TABLE.lstrip("/"), Kind.SYMLINK, MOUNTS),
)
MODE = 0o755  # of all but the links


def make_places(layer: Path) -> None:
    """Have them in this directory, which is made; whatever a crash left of it is made whole."""
    layer.mkdir(exist_ok=True)
    for name, kind, link in PLACES:
        path = layer / name
        match kind:
            case Kind.DIRECTORY:
                path.mkdir(exist_ok=True)
            case Kind.SYMLINK:
                if not path.is_symlink():
                    path.symlink_to(link)
                continue
            case _:
                path.touch()
        _allow(path)
    _allow(layer)


def _allow(path: Path) -> None:
    """Whatever the daemon's umask."""
    if stat.S_IMODE(path.stat().st_mode) != MODE:
        os.chmod(path, MODE)
