"""What a process may do: capabilities, no_new_privs, seccomp, identity; each read back."""

import ctypes
import errno
import os
import struct
from functools import cache

from engine.kernel.libc import KernelError, check, function, system_call

_PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
_PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522
SECCOMP_SET_MODE_FILTER = 1

_prctl = function("prctl", ctypes.c_int, *[ctypes.c_ulong] * 4)


def _control(option: int, first: int = 0, second: int = 0, *, name: str) -> int:
    return check(_prctl(option, first, second, 0, 0), "prctl", name)


def set_dumpable(dumpable: bool) -> None:
    """Without it nobody but a holder of CAP_SYS_PTRACE sees into /proc/PID/{exe,root,fd,mem}."""
    _control(PR_SET_DUMPABLE, int(dumpable), name="PR_SET_DUMPABLE")


def set_keep_capabilities(keep: bool) -> None:
    _control(PR_SET_KEEPCAPS, int(keep), name="PR_SET_KEEPCAPS")


def set_no_new_privileges() -> None:
    _control(PR_SET_NO_NEW_PRIVS, 1, name="PR_SET_NO_NEW_PRIVS")


def set_name(name: str) -> None:
    """The 15 characters that `ps -o comm` shows."""
    system_call("prctl", PR_SET_NAME, name.encode()[:15], path="PR_SET_NAME")


def clear_parent_death_signal() -> None:
    _control(_PR_SET_PDEATHSIG, 0, name="PR_SET_PDEATHSIG")


@cache
def last_capability() -> int:
    """The highest capability this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap") as stream:
        return int(stream.read())


def limit_bounding_set(keep: int, last: int) -> None:
    """Drop every capability up to `last` whose bit is not in `keep` from the bounding set."""
    for capability in range(last + 1):
        if not keep >> capability & 1:
            _drop(capability)


@cache
def bounding_set(last: int) -> int:
    """Of this process, as it was at first."""
    found = 0
    for capability in range(last + 1):
        found |= int(_prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1) << capability
    return found


def _drop(capability: int) -> None:
    try:
        _control(PR_CAPBSET_DROP, capability, name="PR_CAPBSET_DROP")
    except KernelError:  # who may drop none may lack this one
        if _prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            raise


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    system_call("capset", header, capability_data(effective, permitted, inheritable))


def capability_data(effective: int, permitted: int, inheritable: int) -> bytes:
    """Two of struct __user_cap_data_struct, for the low and the high half."""
    sets = (effective, permitted, inheritable)
    return struct.pack("=6I", *[one & 0xFFFFFFFF for one in sets], *[one >> 32 for one in sets])


def get_capabilities() -> tuple[int, int, int]:
    """(effective, permitted, inheritable) of this process."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    buffer = ctypes.create_string_buffer(24)
    system_call("capget", header, buffer)
    sets = struct.unpack("=6I", buffer.raw)
    return sets[0] | sets[3] << 32, sets[1] | sets[4] << 32, sets[2] | sets[5] << 32


def set_ambient(capabilities: int, last: int) -> None:
    _control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, name="PR_CAP_AMBIENT")
    for capability in range(last + 1):
        if capabilities >> capability & 1:
            _control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, name="PR_CAP_AMBIENT")


def become(uid: int, gid: int, groups: tuple[int, ...]) -> None:
    """Groups, gid and uid, in the order that still has the right to do the next; checked.

    Raw calls: the C library's would signal to other threads, and there are none.
    """
    listed = struct.pack(f"={len(groups)}I", *groups)
    system_call("setgroups", len(groups), listed)
    system_call("setresgid", gid, gid, gid)
    system_call("setresuid", uid, uid, uid)
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3:
        raise KernelError("setresuid", str(uid), errno.EPERM)
    if set(os.getgroups()) != set(groups):
        raise KernelError("setgroups", str(groups), errno.EPERM)


def load_seccomp(program: bytes) -> None:
    """Install a compiled BPF filter for this process and all that come after it."""
    # Not a string buffer: for each new length that is a new type, and costs as one.
    pointer = ctypes.c_char_p(program)
    address = ctypes.c_void_p.from_buffer(pointer).value
    # struct sock_fprog: the count of 8-byte instructions, padding, the pointer.
    header = struct.pack("=HxxxxxxQ", len(program) // 8, address)
    system_call("seccomp", SECCOMP_SET_MODE_FILTER, 0, header)
