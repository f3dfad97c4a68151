"""How a shim bears a walker: by a script in the shim's own memory, that its child shares until it
is the walker. It enters the container's cgroup and takes descriptors to where scripts look.

The maker writes it, and the spawner has it when it forks shims: each puts in only which container
is meant, and which of its descriptors. More would take more pages of its own, as long as it lives.
"""

import errno
import fcntl
import marshal
import os
from collections.abc import Mapping

from engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD
from engine.kernel.machine_code import Memory
from engine.runtime import walker
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.script import PLACES, RECORD, SCRIPT, Expect, Refusal, Script

_TARGETS = (0, 1, 2, *PLACES)
_DESCRIPTOR = 8  # into the record that takes one to its place, and into the one that tells
_RECORDS, _MOST = 8192, 24576  # bytes: its records, and what they point to
_memory = Memory(_MOST)
_cannot = Refusal("cannot enter the container's cgroup", is_whole=True)
# Of what was put there last: where the cgroup's own name stands in it, and which record takes the
# first descriptor.
_names: tuple[int, ...] = ()
_first = 0


def pattern(cgroup: Cgroup) -> bytes:
    """To be `put`; good for every group beside this one with a name of that length."""
    to = Script(-1, at=_memory.address, records=_RECORDS)
    parts, count = to.message(_cannot.body(), 0)
    refuse = to.here
    to.call("writev", -1, parts, count)
    to.call("exit_group", 1)
    names = []
    for path in cgroup.task_files():
        flags, text = os.O_WRONLY | os.O_CLOEXEC, to.text(path.encode())
        names.append(text - _memory.address + path.rindex(f"/{cgroup.name}/") + 1)
        to.call("openat", AT_FDCWD, text, flags, 0, into=(1, 0), otherwise=refuse)
        to.call("write", -1, to.text(b"0"), 1, otherwise=refuse)
    first = (to.here - _memory.address) // RECORD
    # Those of -1 are not wanted.
    result = to.words(0)
    for target in _TARGETS:
        absent = to.aside(Expect(result, -errno.EBADF, refuse), then=to.after(1))
        to.call("dup3", -1, target, 0, into=result, otherwise=absent)
    arguments, none = to.vector(walker.arguments(SCRIPT)), to.words(0)
    given = (walker.DESCRIPTOR, to.text(b""), arguments, none, AT_EMPTY_PATH)
    to.call("execveat", *given, otherwise=refuse)
    written = to.written()
    return marshal.dumps((tuple(names), first, written.room, written.records, written.data))


def put(message: bytes) -> None:
    """Into the memory of this process and all that it forks."""
    global _names, _first
    _names, _first, room, records, data = marshal.loads(message)
    _memory.view[: len(records)] = records
    _memory.view[room : room + len(data)] = data


def name(cgroup: bytes) -> None:
    """The group that is meant from now on, by its last part."""
    for offset in _names:
        _memory.view[offset : offset + len(cgroup)] = cgroup


def bear(
    script: int,
    descriptors: Mapping[int, int],
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
    at = _first * RECORD + _DESCRIPTOR
    try:
        for target in _TARGETS:
            descriptor = script if target == SCRIPT else descriptors.get(target, -1)
            if descriptor in PLACES:
                above = max(PLACES) + 1
                descriptor = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above)
                moved.append(descriptor)
            _memory.view[at : at + 8] = descriptor.to_bytes(8, "little", signed=True)
            at += RECORD
        _memory.view[_DESCRIPTOR : _DESCRIPTOR + 8] = supervisor.to_bytes(8, "little")
        return walker.bear(_memory.address + 2 * RECORD, namespaces, cgroup=group)
    finally:
        for descriptor in moved:
            os.close(descriptor)
