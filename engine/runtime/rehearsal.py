"""Walk through what a start computes, on a made-up container and without any effect.

The spawner does it so that the interpreter has specialised the code before it is forked from:
else each fork writes to the pages of every function it calls.
"""

import os

from engine.oci.rootfs import Rootfs
from engine.runtime import (
    capabilities,
    lead_in,
    orders,
    sequence,
)
from engine.runtime.cgroup_tree import Cgroup, Hierarchy

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
        {
            "destination": "/etc/hosts",
            "type": "bind",
            "source": "/etc/hosts",
            "options": ["rbind", "rro"],
        },
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
    document = orders.write({}, WALKED)
    for step in orders.read_steps(document):
        step.describe()
    os.close(document)
    lead_in.put(lead_in.pattern(_NO_CGROUP))


_NO_CGROUP = Cgroup(Hierarchy((), ""), _PATH)

WALKED = sequence.container_sequence(
    _SPEC,
    container_id="rehearsal",
    rootfs=Rootfs(("/",), "/", "/", False),
    hook="/",
    user="",
    groups=(),
    seccomp=bytes(4096),
    last_capability=40,
)
