"""Walk through what a start computes, on a made-up container and without any effect.

The spawner does it so that the interpreter has specialised the code before it is forked from:
else each fork writes to the pages of every function it calls. A first process that waits does its
part again so that the pages that a start writes to are its own already. Both make a start shorter,
most where a page fault is dear, and change nothing else.
"""

import os

from engine.kernel import mount
from engine.kernel.libc import AT_FDCWD
from engine.oci.rootfs import Rootfs
from engine.runtime import (
    capabilities,
    channel,
    hiding,
    init,
    mounts,
    nodes,
    orders,
    sequence,
    users,
)
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.script import Known
from engine.runtime.steps import Place, Step

_PATH = "/pycompose-rehearsal/none"

_SPEC = {
    "ociVersion": "1.2.0",
    "hostname": "rehearsal",
    "root": {"path": "rootfs", "readonly": False},
    "process": {
        "terminal": False,
        "args": ["true"],
        "env": ["PATH=/usr/bin", "HOSTNAME=rehearsal"],
        "cwd": "/",
        "capabilities": {
            name: list(capabilities.DEFAULT) for name in ("bounding", "effective", "permitted")
        },
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}],
        "noNewPrivileges": False,
        "oomScoreAdj": 0,
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "ro"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/etc/hosts", "type": "bind", "source": "/x", "options": ["rbind", "rro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]},
    ],
    "linux": {
        "cgroupsPath": _PATH,
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}],
        "resources": {},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "sysctl": {"net.ipv4.ip_forward": "0"},
    },
}


def rehearse_steps() -> None:
    """The first process's part, which it does in memory that goes with execve."""
    document = orders.write({}, _WALKED)
    walked = orders.read_steps(document)
    os.close(document)
    for step in walked:
        step.describe()
    identity = users.resolve("", (), "root:x:0:0:root:/root:/bin/sh\n", "root:x:0:\n")
    kinds = [type(step) for step in walked]
    init.script_of(walked[kinds.index(init.HANDED_OVER) :], Known(identity, 3, 3))


def rehearse_world() -> None:
    """What can be tried of these steps, on file systems that are attached nowhere."""
    root = mount.make_filesystem("tmpfs", "tmpfs", (("mode", "755"),), 0)
    supervisor, other = channel.pair()
    with supervisor, other:
        place = Place(supervisor, _NO_CGROUP, root=root)
        for step in (*_devices(), hiding.ProtectPath("/none/x"), hiding.MaskPath("/none/y")):
            step.run(place)
        for path, is_folder in (("/proc/self", True), ("/etc/hosts", False)):
            os.close(mounts.make_target(root, path, directory=is_folder))
    # Not of `root`: before Linux 6.15 what is attached nowhere can't be cloned.
    tree = mount.clone_tree(AT_FDCWD, "/", recursive=False)
    mount.mount_setattr(tree, set_attributes=mount.MOUNT_ATTR_NOSUID)
    os.close(tree)
    os.close(root)


def _devices() -> list[Step]:
    return [step for step in _WALKED if isinstance(step, nodes.MakeDevice | nodes.MakeLink)]


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


_NO_CGROUP = Cgroup(Hierarchy((), ""), _PATH)

_WALKED = sequence.container_sequence(
    _SPEC,
    container_id="rehearsal",
    rootfs=Rootfs(("/",), "/", "/", False),
    hook="/",
    user="",
    groups=(),
    seccomp=bytes(4096),
    last_capability=40,
)
