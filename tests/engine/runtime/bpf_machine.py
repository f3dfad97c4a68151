"""A small interpreter of classic BPF as seccomp uses it, and struct seccomp_data."""

import struct

ALLOW, ERRNO, KILL_PROCESS, KILL_THREAD = 0x7FFF0000, 0x00050000, 0x80000000, 0
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7


class Machine:
    def __init__(self, program: bytes) -> None:
        self.code = list(struct.iter_unpack("=HBBI", program))

    def run(self, architecture: int, number: int, *arguments: int) -> int:
        padded = [*arguments, *[0] * (6 - len(arguments))]
        data = struct.pack("=iIQ6Q", _signed(number), architecture, 0xDEAD, *padded)
        accumulator = 0
        at = 0
        while True:
            code, when, otherwise, constant = self.code[at]
            at += 1
            match code:
                case 0x20:  # ld [k]
                    assert constant % 4 == 0
                    accumulator = struct.unpack_from("=I", data, constant)[0]
                case 0x54:
                    accumulator &= constant
                case 0x05:
                    at += constant
                case 0x15:
                    at += when if accumulator == constant else otherwise
                case 0x25:
                    at += when if accumulator > constant else otherwise
                case 0x35:
                    at += when if accumulator >= constant else otherwise
                case 0x45:
                    at += when if accumulator & constant else otherwise
                case 0x06:
                    return int(constant)
                case _:
                    raise AssertionError(f"instruction {code:#x}")


def _signed(number: int) -> int:
    return number - (1 << 32) if number >= 1 << 31 else number
