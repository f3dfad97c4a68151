"""Walk through what a start computes, on a made-up container and without any effect.

The spawner does it so that the interpreter has specialised the code before it is forked from:
else each fork writes to the pages of every function it calls. A spare shim does its own part
again so that the pages that a start writes to are its own already. Both make a start shorter,
most where a page fault is dear, and change nothing else.
"""

import json
import os
import socket

from engine.oci.rootfs import Rootfs
from engine.runtime import capabilities, channel, sequence
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.log_writer import Clock, LineBuffer, escape
from engine.runtime.poller import READABLE, Poller
from engine.runtime.steps import Place

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


def rehearse(hierarchy: Hierarchy) -> None:
    """The shim's part: what it does before it forks the container's first process."""
    ours, theirs = channel.pair()
    with ours, theirs:
        request = json.dumps({"spec": _SPEC, "seccomp": bytes(4000).hex()}).encode()
        channel.send(ours, {"launch": True}, (theirs.fileno(),))
        message = channel.receive(theirs)
        assert message is not None
        os.close(message.descriptors[0])
        spec = json.loads(channel.read_document(channel.write_document(request)))["spec"]
        sequence.enclosure(spec)
        Place(ours, Cgroup(hierarchy, _PATH))
        _serve(theirs)
    for text, _ in LineBuffer().feed(b'a "line"\nand another\n'):
        escape(text)
    Clock().stamp(0)


def rehearse_steps() -> None:
    """The first process's part, which it does in memory that goes with execve."""
    walked = sequence.container_sequence(
        _SPEC,
        container_id="rehearsal",
        rootfs=Rootfs(("/",), "/", "/", False),
        hook="/",
        user="",
        groups=(),
        seccomp=b"",
        last_capability=40,
    )
    for step in walked:
        step.describe()


def _serve(connection: socket.socket) -> None:
    poller = Poller()
    poller.watch(connection.fileno(), READABLE, lambda _: None)
    poller.at("soon", 0.0, lambda: None)
    poller.turn()
    poller.close()
