"""How a shim bears a walker: by a script in the shim's own memory, that its child shares until it
is the walker. It enters the container's cgroup and takes descriptors to where scripts look.

The maker writes it, once a shim. That puts in which of its descriptors are meant: to write more a
shim would need more pages of its own, for as long as it lives.
"""

import errno
import fcntl
import os
from collections.abc import Mapping

from engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD
from engine.kernel.machine_code import Memory
from engine.runtime import walker
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.script import PLACES, RECORD, SCRIPT, Expect, Refusal, Script, Written

_TARGETS = (0, 1, 2, *PLACES)
# At the beginning: where it says that it can't go on, which is the first argument of a call.
_SUPERVISOR = 8

_RECORDS, _MOST = 8192, 24576
_memory = Memory(_MOST)
# What was written for this path, that is too long to stand for anything else.
_last = "", Written(0, b"", b"")
_LONG = 64
_cannot = Refusal("cannot enter the container's cgroup", is_whole=True)


def written(cgroup: Cgroup) -> Written:
    """For the memory of this process and its like, the forks of one spawner."""
    global _last
    path = cgroup.path
    if len(path) >= _LONG and len(path) == len(_last[0]):
        # They differ in nothing but the path.
        written = _last[1]
        return written._replace(data=written.data.replace(_last[0].encode(), path.encode()))
    _last = path, _written(cgroup)
    return _last[1]


def _written(cgroup: Cgroup) -> Written:
    to = Script(-1, at=_memory.address, records=_RECORDS)
    parts, count = to.message(_cannot.body(), 0)
    refuse = to.here
    to.call("writev", -1, parts, count)
    to.call("exit_group", 1)
    for path in cgroup.task_files():
        flags = os.O_WRONLY | os.O_CLOEXEC
        file = (AT_FDCWD, to.text(path.encode()), flags, 0)
        to.call("openat", *file, into=(1, 0), otherwise=refuse)
        to.call("write", -1, to.text(b"0"), 1, otherwise=refuse)
    # Those of -1 are not wanted.
    result = to.words(0)
    for target in _TARGETS:
        absent = to.aside(Expect(result, -errno.EBADF, refuse), then=to.after(1))
        to.call("dup3", -1, target, 0, into=result, otherwise=absent)
    arguments, none = to.vector(walker.arguments(SCRIPT)), to.words(0)
    given = (walker.DESCRIPTOR, to.text(b""), arguments, none, AT_EMPTY_PATH)
    to.call("execveat", *given, otherwise=refuse)
    return to.written()


def put(room: int, records: bytes, data: bytes) -> None:
    """What was `written`, before the first `bear`."""
    _memory.write(0, records)
    _memory.write(room, data)


def bear(
    script: int,
    descriptors: Mapping[int, int],
    cgroup: Cgroup,
    *,
    supervisor: int,
    namespaces: int = 0,
    group: int,
) -> tuple[int, int]:
    """pid and pidfd of a process that walks the script, in new `namespaces`. `descriptors`: ours,
    by the number that it is to have there; `supervisor`: where it says what went wrong; `group`: of
    the cgroup in the unified tree, or -1. Nothing may freeze the cgroup meanwhile. Raises
    KernelError."""
    moved = []
    begin = 2 + 2 * len(cgroup.task_files())
    try:
        for index, target in enumerate(_TARGETS):
            descriptor = script if target == SCRIPT else descriptors.get(target, -1)
            if descriptor in PLACES:
                above = max(PLACES) + 1
                descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above)
                moved.append(descriptor)
            word = descriptor.to_bytes(8, "little", signed=True)
            _memory.write((begin + index) * RECORD + 8, word)
        _memory.write(_SUPERVISOR, supervisor.to_bytes(8, "little"))
        return walker.bear(_memory.address + 2 * RECORD, namespaces, cgroup=group)
    finally:
        for descriptor in moved:
            os.close(descriptor)
