"""A container's first process as scripts for the walker: one by which it waits for its orders, in
the container's namespaces and cgroup, and one, made by the daemon, of all the steps to the payload.

Steps that want more than calls make no script (Unscriptable): then the interpreter walks them
(`newborn`). It does so, too, where a script could not go on: an image or a mount that wants another
than the straight way, or a mistake that it has the words for.
"""

import errno
import fcntl
import os
import socket
from collections.abc import Mapping, Sequence

from engine.kernel import namespaces
from engine.kernel.libc import AT_FDCWD
from engine.runtime import channel, walker
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.cgroups import Setting
from engine.runtime.script import (
    LOWEST,
    NETWORK,
    ORDERS,
    RECORD,
    ROOT,
    SUPERVISOR,
    Expect,
    Known,
    Refusal,
    Script,
    Written,
)
from engine.runtime.stdio import INPUT
from engine.runtime.steps import Step
from engine.runtime.users import Identity

ORDER = channel.encode({"script": True})  # beside it a descriptor
# Where the spawner keeps the script of one that waits.
DESCRIPTOR = walker.DESCRIPTOR + 1

_ADDRESS = walker.ADDRESS * 2  # of the second, in the memory of the first
_SIZE = 0x4000000
_READ_AND_WRITE, _PRIVATE_AND_FIXED = 3, 0x12
_CANNOT = Refusal("cannot prepare a container")


def keep() -> None:
    """Put the script of one that waits behind DESCRIPTOR."""
    document = _waiting().written().document()
    if document != DESCRIPTOR:
        os.dup2(document, DESCRIPTOR, inheritable=False)
        os.close(document)


def _waiting() -> Script:
    to = Script(SUPERVISOR)
    to.begin(_CANNOT)
    result = to.words(0)
    not_own = Expect(result, -errno.EBADF, to.refusal(_CANNOT, result))
    otherwise = to.aside(not_own, then=to.after(1))
    to.call("setns", NETWORK, namespaces.CLONE_NEWNET, into=result, otherwise=otherwise)
    to.call("close", NETWORK)
    length, gone = to.words(0), to.end(1)
    parts = to.words(to.scratch, len(ORDER))
    control = to.room(socket.CMSG_SPACE(4))
    header = to.words(0, 0, parts, 1, control, socket.CMSG_SPACE(4), 0)
    flags = socket.MSG_CMSG_CLOEXEC
    to.call("recvmsg", ORDERS, header, flags, into=length, otherwise=gone)
    to.expect(length, len(ORDER), otherwise=gone)
    given = (_ADDRESS, _SIZE, _READ_AND_WRITE, _PRIVATE_AND_FIXED, LOWEST, 0)
    to.must(_CANNOT, "mmap", *given)
    to.call("close", LOWEST)
    to.go(_ADDRESS)
    return to


def script_of(
    walked: Sequence[Step],
    identity: Identity,
    cgroup: Cgroup,
    shims_part: Mapping[str, object],
    writes: Sequence[tuple[str, Setting]],
) -> Written:
    """`writes`: (folder, limit) of its cgroup, which one who waits was born without. Raises
    Unscriptable."""
    to = Script(SUPERVISOR, at=_ADDRESS)
    # The interpreter, which then tries, finds out. It would take most of the time to write, and of
    # the room, to tell of each call what it was for.
    to.untold = to.refusal(Refusal("its script could not go on", is_whole=True))
    for directory, setting in writes:
        write_limit(to, directory, setting)
    to.call("close_range", LOWEST, SUPERVISOR - 1, 0)  # so that it is known what is free
    pipes = _write_stdio(to, shims_part)
    nulls = tuple(number for number in (0, 1, 2) if number not in pipes)
    if shims_part["terminal"]:
        pipes = (0,)  # is all three of them, by then
    known = Known(identity, cgroup, root=ROOT, nulls=nulls, pipes=pipes)
    for step in walked:
        to.tidy()
        step.write(to, known)
    return to.written()


def write_limit(to: Script, directory: str, setting: Setting) -> None:
    """As `cgroup_files.set_all`, of a file that may not be there."""
    path, value = to.text(f"{directory}/{setting.file}".encode()), setting.value.encode()
    given = (AT_FDCWD, path, os.O_WRONLY | os.O_CLOEXEC, 0)
    if setting.instead is None:
        to.must(_CANNOT, "openat", *given, into=(1, 0))
        to.must(_CANNOT, "write", -1, to.text(value), len(value))
        return
    result, end = to.words(0), to.room(RECORD)
    is_absent = Expect(result, -errno.ENOENT, to.refusal(_CANNOT, result))
    to.call("openat", *given, into=result, otherwise=to.aside(is_absent, then=to.after(4)))
    to.copy(result, (1, 0))
    to.must(_CANNOT, "write", -1, to.text(value), len(value))
    to.go(end)
    for other in setting.instead:
        write_limit(to, directory, other)
    to.fill(end, then=to.here)


def _write_stdio(to: Script, shims_part: Mapping[str, object]) -> tuple[int, ...]:
    """As `newborn.use_stdio`: the shim is given its ends of it, with its part of the orders. Which
    of 0, 1 and 2 are pipes then."""
    cannot = Refusal("cannot make the standard streams")
    reading, writing, other = LOWEST, LOWEST + 1, LOWEST + 2  # as the kernel gives them
    pair = to.words(0)
    launched = {"state": "launched", **shims_part, "ahead": True}
    has_input = bool(shims_part["open_stdin"]) and not shims_part["terminal"]
    if has_input:
        to.must(cannot, "pipe2", pair, os.O_CLOEXEC)
        to.must(cannot, "dup3", reading, 0, 0)
        to.call("fcntl", writing, fcntl.F_SETPIPE_SZ, INPUT)
    header, _ = to.bring(launched, *([writing] if has_input else ()))
    to.must(cannot, "sendmsg", SUPERVISOR, header, socket.MSG_NOSIGNAL)
    if has_input:
        to.call("close_range", reading, writing, 0)
    if shims_part["terminal"]:
        return ()
    to.must(cannot, "pipe2", pair, os.O_CLOEXEC)
    to.must(cannot, "dup3", writing, 1, 0)
    to.call("close", writing)
    to.must(cannot, "pipe2", pair, os.O_CLOEXEC)
    to.must(cannot, "dup3", other, 2, 0)
    header, _ = to.bring({"state": "stdio"}, reading, writing)
    to.must(cannot, "sendmsg", SUPERVISOR, header, socket.MSG_NOSIGNAL)
    to.call("close_range", reading, other, 0)
    return (0, 1, 2) if has_input else (1, 2)
