"""Processes: clone3 with a pidfd, waiting, descriptors, terminals, the name that ps shows."""

import ctypes
import errno
import fcntl
import os
import signal
import struct
import termios
from collections.abc import Iterable

from engine.kernel.libc import KernelError, system_call

CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_INTO_CGROUP = 0x200000000

TIOCGPTPEER = 0x5441
TIOCSPTLCK = 0x40045431
_CLOSE_RANGE_CLOEXEC = 4
_P_PIDFD = 3
_CLD_EXITED = 1


# What `sibling` asks for, by the call that filters of system calls know by its arguments.
SIBLING_FLAGS = CLONE_PIDFD | CLONE_PARENT


# Made once: what each fork makes for itself, it makes on pages of its own.
_CLONE = struct.Struct("=11Q")
_CLONE_SIZE = _CLONE.size
_clone_arguments = ctypes.create_string_buffer(_CLONE_SIZE)
_CLONE_ARGUMENTS = ctypes.addressof(_clone_arguments)
_pidfd = ctypes.c_int(-1)
_PIDFD = ctypes.addressof(_pidfd)
_SIGCHLD = int(signal.SIGCHLD)


def clone3(flags: int = 0, *, cgroup: int = -1) -> tuple[int, int]:
    """pid and pidfd of a fork with new namespaces in `flags`, in itself 0 and -1; with `cgroup`, a
    descriptor in the unified tree, it is born in that group.

    Half the price of os.fork, which runs the interpreter's hooks for threads; there are none
    here. The caller must be single threaded.
    """
    arguments, size, pidfd = clone_arguments(flags, cgroup)
    pid = system_call("clone3", arguments, size)
    return pid, pidfd.value if pid else -1


def clone_arguments(flags: int, cgroup: int) -> tuple[int, int, ctypes.c_int]:
    """For clone3: the address and the size of its arguments, good until the next are asked for, and
    where the child's pidfd will be."""
    flags |= CLONE_PIDFD
    if cgroup >= 0:
        flags |= CLONE_INTO_CGROUP
    _CLONE.pack_into(
        _clone_arguments,
        0,
        flags,
        _PIDFD,
        0,
        0,
        _SIGCHLD,
        0,  # no stack of its own, no thread-local storage
        0,
        0,
        0,  # pids as the kernel gives them
        0,
        max(cgroup, 0),
    )
    return _CLONE_ARGUMENTS, _CLONE_SIZE, _pidfd


def sibling() -> tuple[int, int]:
    """Fork a child of the caller's parent, who is told of its end as of that of others."""
    pidfd = ctypes.c_int(-1)
    pid = system_call("clone", SIBLING_FLAGS, 0, ctypes.addressof(pidfd))
    return pid, pidfd.value if pid else -1


def reap(pidfd: int) -> tuple[int, int | None] | None:
    """(exit code, signal or None) of a child that ended, None while it runs."""
    found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if found is None:
        return None
    if found.si_code == _CLD_EXITED:
        return found.si_status, None
    return 128 + found.si_status, found.si_status


def send_signal(pidfd: int, number: int) -> None:
    """Raises ProcessLookupError when the process is gone."""
    signal.pidfd_send_signal(pidfd, number)


def close_range(first: int, last: int = 0xFFFFFFFF, *, on_exec: bool = False) -> None:
    system_call("close_range", first, last, _CLOSE_RANGE_CLOEXEC if on_exec else 0)


def close_all_but(*kept: int) -> None:
    """And 0, 1 and 2."""
    first = 3
    for descriptor in sorted(kept):
        if first < descriptor:
            close_range(first, descriptor - 1)
        first = max(first, descriptor + 1)
    close_range(first)


_SIGNALS = tuple(
    number for number in range(1, signal.NSIG) if number not in (signal.SIGKILL, signal.SIGSTOP)
)
_ignored: tuple[int, ...] = _SIGNALS  # as far as is known
# By shims. A closed pipe and a full limit are errors of a call.
IGNORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def default_signal(number: int) -> None:
    """Without what the interpreter's own module does around the call, in memory of a fork."""
    default = bytes(32)  # struct sigaction: SIG_DFL, no flags, nothing blocked
    system_call("rt_sigaction", number, default, None, 8)


def ignore_only(*numbers: int) -> None:
    """Every other disposition back to the default: what Python ignores and catches, and what
    whoever started this process did."""
    global _ignored
    _reset(_SIGNALS)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    _ignored = numbers


def default_signals() -> None:
    """Every disposition back to the default that execve would keep, and nothing blocked."""
    _reset(_ignored)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _reset(numbers: Iterable[int]) -> None:
    for number in numbers:
        # Not by signal.signal: the C library keeps 32 and 33 for its threads, and its
        # posix_spawn leaves them ignored.
        default_signal(number)


def join_session_keyring(name: str) -> None:
    """A new, empty session keyring, so that the engine's keys stay out of reach."""
    join_session = 1
    try:
        system_call("keyctl", join_session, name.encode(), path=name)
    except KernelError as error:
        # A kernel without keyrings has nothing to hide.
        if error.errno != errno.ENOSYS:
            raise


def open_pty_peer(master: int) -> int:
    """The other end of a pty, by ioctl: a path under /dev/pts could be a trap."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    return fcntl.ioctl(master, TIOCGPTPEER, flags)


def unlock_pty(master: int) -> None:
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("=i", 0))


def set_window_size(master: int, height: int, width: int) -> None:
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("=HHHH", height, width, 0, 0))


def take_terminal(descriptor: int) -> None:
    """Make the terminal the controlling one of this session."""
    fcntl.ioctl(descriptor, termios.TIOCSCTTY, 0)
