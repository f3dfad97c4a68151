"""The process that forks every shim: small, single threaded, everything imported beforehand.

The daemon starts it as a fresh interpreter from a sealed memory file (`launch`), so what is seen
of it inside a container is a file that nobody can write. It forks first the maker, to which it
leaves the daemon's socket, then shims when that asks for them, and does nothing else; shims in
their own sessions outlive it, and it ends when the maker does.
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
from engine.runtime import (
    cgroup_tree,
    channel,
    first,
    layout,
    lead_in,
    maker,
    reaper,
    refuge,
    shim,
    walker,
)
from engine.runtime.cgroup_tree import Hierarchy
from engine.runtime.rehearsal import rehearse_steps
from engine.runtime.trial import try_life

# The daemon's socket, where `launch` puts it; then the maker's.
CONNECTION = 3
# After that, the reaper, the walker and its script: so what a message brings is closed without a
# look at it.
_RECEIVED = first.DESCRIPTOR + 1
# Calls after which the interpreter has specialised a function, with some to spare.
_REHEARSALS = 16


def main() -> NoReturn:
    connection = socket.socket(fileno=CONNECTION)
    connection.set_inheritable(False)
    hierarchy = cgroup_tree.detect()
    try:
        refuge.enter(hierarchy)
    except OSError as error:
        sys.stderr.write(f"containers end with the engine's service: {error}\n")
    _harden(hierarchy)
    ours, theirs = channel.pair()
    if process.clone3()[0] == 0:
        ours.close()
        maker.serve(connection, theirs, hierarchy)
    os.dup2(ours.detach(), CONNECTION, inheritable=False)
    process.close_range(_RECEIVED)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while True:
            message, beside, _, _ = connection.recvmsg(*channel.MOST)
            if not message:
                break
            if message.startswith(maker.PATTERN):
                lead_in.put(message[len(maker.PATTERN) :])
                connection.send(maker.DONE)
            else:
                connection.send(_fork(connection, message, beside, hierarchy))
            process.close_range(_RECEIVED)
    refuge.leave(hierarchy, together=True)
    os._exit(0)


def _fork(
    connection: socket.socket, message: bytes, beside: channel.Beside, hierarchy: Hierarchy
) -> bytes:
    """The answer."""
    try:
        if process.clone3()[0] == 0:
            os.close(connection.detach())
            shim.main(message, beside, hierarchy)
    except OSError as error:
        return str(error).encode()
    return maker.DONE


def _harden(hierarchy: Hierarchy) -> None:
    os.chdir("/")
    os.umask(0o077)
    # Nobody in a container looks into a process that enters it, nor at the engine's memory.
    privileges.set_dumpable(False)
    process.close_range(CONNECTION + 1)
    reaper.keep()
    walker.keep()
    first.keep()
    process.ignore_only(*process.IGNORED)  # shims take these over as they are
    for name in ("ascii", "latin-1", "utf-8"):
        codecs.lookup(name)  # a codec is a module, too
    # From now on nothing can be imported: not from a container's files, after its root is ours.
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    gc.disable()
    for _ in range(_REHEARSALS):
        rehearse_steps()
    lives = [try_life(hierarchy) for _ in range(_REHEARSALS)]
    lives.clear()
    gc.collect()
    process.close_range(_RECEIVED)
    # Shims are reaped by nobody: the kernel drops them. They set this back.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    procfs.set_command_line("pycompose-spawner")
    privileges.set_name("pycompose-spawn")
    layout.fill_gaps()
    gc.freeze()
