"""The process that forks every shim: small, single threaded, everything imported beforehand.

The daemon starts it as a fresh interpreter from a sealed memory file (`launch`), so what is seen
of it inside a container is a file that nobody can write. It forks on request and does nothing
else; shims in their own sessions outlive it, and it ends when the daemon's socket does.
"""

import codecs
import contextlib
import gc
import os
import signal
import socket
import sys
from typing import NoReturn

from engine.kernel import privileges, process, procfs
from engine.runtime import cgroup_tree, channel, reaper, refuge, shim
from engine.runtime.cgroup_tree import Hierarchy
from engine.runtime.rehearsal import rehearse, rehearse_steps

# The daemon's socket, where `launch` puts it.
CONNECTION = 3
# Calls after which the interpreter has specialised a function, with some to spare.
_REHEARSALS = 20


def main() -> NoReturn:
    connection = socket.socket(fileno=CONNECTION)
    connection.set_inheritable(False)
    hierarchy = cgroup_tree.detect()
    try:
        refuge.enter(hierarchy)
    except OSError as error:
        sys.stderr.write(f"containers end with the engine's service: {error}\n")
    _harden()
    with contextlib.suppress(BrokenPipeError):  # the daemon is gone already, as is seen below
        channel.send(connection, {"ready": os.getpid()})
    while True:
        message = channel.receive(connection)
        if message is None:
            refuge.leave(hierarchy, together=True)
            os._exit(0)
        document, shim_end = message.descriptors
        _fork(connection, document, shim_end, hierarchy)
        os.close(document)
        os.close(shim_end)


def _fork(connection: socket.socket, document: int, shim_end: int, hierarchy: Hierarchy) -> None:
    try:
        child = process.clone3()
        if child.pid == 0:
            connection.close()
            shim.main(socket.socket(fileno=shim_end), document, hierarchy)
        os.close(child.pidfd)
    except OSError as error:
        with socket.socket(fileno=os.dup(shim_end)) as answer:
            channel.send(answer, {"event": "failed", "error": str(error), "code": 128})


def _harden() -> None:
    os.chdir("/")
    os.umask(0o077)
    # Nobody in a container looks into a process that enters it, nor at the engine's memory.
    privileges.set_dumpable(False)
    process.close_range(CONNECTION + 1)
    reaper.keep()
    # Shims are reaped by nobody: the kernel drops them. They set this back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Shims take these over as they are.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    procfs.set_command_line("pycompose-spawner")
    privileges.set_name("pycompose-spawn")
    for name in ("ascii", "latin-1", "utf-8"):
        codecs.lookup(name)  # a codec is a module, too
    # From now on nothing can be imported: not from a container's files, after its root is ours.
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    gc.disable()
    for _ in range(_REHEARSALS):
        rehearse()
        rehearse_steps()
    gc.collect()
    gc.freeze()
