"""Programs of a page, written out as machine code: a compiler is not there where an engine starts.

A listing has an instruction a line: its bytes, then a label or none, then what `as` makes these
bytes from.
"""

import ctypes
import mmap
import os
import struct
from collections.abc import Callable

from engine.kernel.libc import system_call

_NUMBERS = {"x86_64": 62, "aarch64": 183}  # e_machine of ELF

_ADDRESS = 0x400000
_LARGEST_PAGE = 0x10000  # of all that these have
_HEADER = struct.Struct("<4s5B7x2HI3QI6H")
_SEGMENT = struct.Struct("<2I6Q")


def code(listing: str) -> bytes:
    return b"".join(bytes.fromhex(line.split()[0]) for line in listing.strip().splitlines())


def offset(listing: str, label: str) -> int:
    """Bytes before the instruction of this label. Raises KeyError."""
    before = 0
    for line in listing.strip().splitlines():
        first, second, *_ = line.split()
        if second == label:
            return before
        before += len(first) // 2
    raise KeyError(label)


def executable(machine: str, listing: str) -> bytes:
    """A static ELF program that begins with the first instruction. KeyError: not for this one."""
    body = code(listing)
    begin = _HEADER.size + 2 * _SEGMENT.size
    size = begin + len(body)
    header = _HEADER.pack(
        *(b"\x7fELF", 2, 1, 1, 0, 0),  # 64 bits, little endian
        *(2, _NUMBERS[machine], 1, _ADDRESS + begin, _HEADER.size, 0, 0),  # at a fixed address
        *(_HEADER.size, _SEGMENT.size, 2, 0, 0, 0),
    )
    readable_and_executable, readable_and_writable = 5, 6
    loaded = _SEGMENT.pack(
        1, readable_and_executable, 0, _ADDRESS, _ADDRESS, size, size, _LARGEST_PAGE
    )
    stack = _SEGMENT.pack(0x6474E551, readable_and_writable, *(0,) * 5, 16)
    return header + loaded + stack + body


def function(program: int, listing: str, label: str) -> Callable[[int, int, int], int]:
    """What begins at this label in the program behind a descriptor: a function of three words. The
    program stays mapped for as long as this process lives, and in its forks. Raises KernelError."""
    size = os.fstat(program).st_size
    flags = mmap.PROT_READ | mmap.PROT_EXEC
    mapped = system_call("mmap", 0, size, flags, mmap.MAP_PRIVATE, program, 0)
    begin = _HEADER.size + 2 * _SEGMENT.size
    # It keeps the interpreter's lock, as a child must come back to it.
    kind = ctypes.PYFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return kind(mapped + begin + offset(listing, label))


class Memory:
    """Of this process, at an address that stays."""

    def __init__(self, size: int) -> None:
        self._buffer = ctypes.create_string_buffer(size)
        self.address = ctypes.addressof(self._buffer)
        self.view = memoryview(self._buffer).cast("B")
