"""Holds processes at a step of theirs, as a debugger does, so that another event can come first."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal

from engine.kernel.libc import NUMBERS

# <linux/ptrace.h>
_CONTINUE = 7
_DETACH = 17
_SYSCALL = 24
_GETEVENTMSG = 0x4201
_SEIZE = 0x4206
_GET_SYSCALL_INFO = 0x420E
_O_TRACESYSGOOD, _O_TRACE_CHILDREN = 0x1, 0x2 | 0x4 | 0x8  # by whatever call they are made
_EVENTS = (1, 2, 3)  # that a child was made
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_ENTRY = 1

_WALL = 0x40000000  # <linux/wait.h>: whatever their end is told by

_ptrace = ctypes.CDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


class _SyscallInfo(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("rest", ctypes.c_uint64 * 8),
    )


async def next_child(parent: int) -> int:
    """The next that it forks: both are held then, the child where it begins."""
    _call(_SEIZE, parent, data=_O_TRACESYSGOOD | _O_TRACE_CHILDREN)
    while (await _stop(parent)) >> 8 not in _EVENTS:
        _call(_CONTINUE, parent)
    pid = ctypes.c_ulong()
    _call(_GETEVENTMSG, parent, data=ctypes.addressof(pid))
    await _stop(pid.value)
    return pid.value


async def hold_before(pid: int, name: str) -> None:
    """A process that is held goes on until it makes the system call `name`."""
    seen = _SyscallInfo()
    while (seen.op, seen.number) != (_ENTRY, NUMBERS[name]):
        _call(_SYSCALL, pid)
        if await _stop(pid) == _SYSCALL_STOP:
            _call(_GET_SYSCALL_INFO, pid, ctypes.sizeof(seen), ctypes.addressof(seen))


def let_go(pid: int) -> None:
    _call(_DETACH, pid)


async def _stop(pid: int) -> int:
    """What it stopped for, when it has."""
    _, status = await asyncio.to_thread(os.waitpid, pid, _WALL)
    assert os.WIFSTOPPED(status)
    return status >> 8


def _call(request: int, pid: int, address: int = 0, data: int = 0) -> None:
    if _ptrace(request, pid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
