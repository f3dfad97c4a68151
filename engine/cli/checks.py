"""Whether this user and this kernel can run containers; if not: what, why, what to do."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from engine.errors import Failure
from engine.kernel.libc import KernelError
from engine.kernel.mount import knows_filesystem, mount_setattr

NAMESPACES = ("mnt", "pid", "net", "uts", "ipc", "cgroup")
NETLINK_NETFILTER = 12
CAP_NET_ADMIN = 12
CONFINED = (
    "inside a container or a sandbox, start that with all capabilities (docker run --privileged)"
)


def check_user(uid: int) -> None:
    if uid != 0:
        raise Failure(
            "cannot run containers as an ordinary user: namespaces, bridges and cgroups of the "
            "machine belong to root, and this engine has no rootless mode; start it by sudo"
        )


def check_machine() -> None:
    """Raises Failure with all that is missing at once."""
    missing = [*_version(), *_namespaces(), *_file_systems(), *_cgroups(), *_nftables()]
    if missing:
        raise Failure("cannot run containers on this kernel:\n  " + "\n  ".join(missing))


def _version() -> list[str]:
    try:
        mount_setattr(-1)
    except KernelError as error:
        if error.errno == errno.ENOSYS:
            return [f"Linux {os.uname().release} is too old: it has to be 5.12 or newer"]
    return []


def _namespaces() -> list[str]:
    absent = [name for name in NAMESPACES if not Path(f"/proc/self/ns/{name}").exists()]
    if not absent:
        return []
    return [f"no {', '.join(absent)} namespaces: the kernel was built without them"]


def _file_systems() -> list[str]:
    try:
        if knows_filesystem("overlay"):
            return []
    except KernelError as error:
        if error.errno != errno.EPERM:
            raise
        return [f"this root may not mount anything: {CONFINED}"]
    module = Path(f"/lib/modules/{os.uname().release}")
    if any(module.glob("kernel/fs/overlayfs/*")):
        return ["no overlay file system: its module was not loaded; try `modprobe overlay`"]
    return ["no overlay file system: the kernel was built without CONFIG_OVERLAY_FS"]


def _cgroups() -> list[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[2] in ("cgroup", "cgroup2"):
            return []
    return ["no cgroups are mounted: mount -t cgroup2 none /sys/fs/cgroup"]


def _nftables() -> list[str]:
    status = Path("/proc/self/status").read_text()
    held = next(int(line.split()[1], 16) for line in status.splitlines() if "CapEff" in line)
    if not held >> CAP_NET_ADMIN & 1:
        return [f"this root may not change networks: {CONFINED}"]
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER).close()
    except OSError as error:
        if error.errno != errno.EPROTONOSUPPORT:
            raise Failure(f"cannot open a netlink socket: {error.strerror}") from error
        return ["no nftables: load it by `modprobe nf_tables`"]
    return []
