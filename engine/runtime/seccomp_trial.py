"""What a compiled filter would answer to a call, before anything runs under it. Pure."""

import platform
import struct
from functools import lru_cache

from engine.runtime.syscalls import AARCH64, X86_64

_ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
_NATIVE = {"x86_64": (0xC000003E, X86_64), "aarch64": (0xC00000B7, AARCH64)}


@lru_cache(maxsize=64)
def allows(program: bytes, name: str, *arguments: int, machine: str = platform.machine()) -> bool:
    """Whether the native call passes; b"" lets everything pass."""
    if not program:
        return True
    architecture, numbers = _NATIVE[machine]
    padded = (*arguments, *(0,) * (6 - len(arguments)))
    # struct seccomp_data, linux/seccomp.h
    call = struct.pack("=iIQ6Q", numbers[name], architecture, 0, *padded)
    return _run(tuple(struct.iter_unpack("=HBBI", program)), call) == _ALLOW


def _run(code: tuple[tuple[int, int, int, int], ...], call: bytes) -> int:
    """The instructions that `seccomp.compile_filter` writes, and no others."""
    value, at = 0, 0
    while True:
        operation, when, otherwise, constant = code[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", call, constant)
            case 0x54:
                value &= constant
            case 0x05:
                at += constant
            case 0x15:
                at += when if value == constant else otherwise
            case 0x25:
                at += when if value > constant else otherwise
            case 0x35:
                at += when if value >= constant else otherwise
            case 0x45:
                at += when if value & constant else otherwise
            case 0x06:
                return constant
            case _:
                raise AssertionError(f"instruction {operation:#x}")
