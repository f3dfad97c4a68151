"""bpf(2), as far as the device filter of a cgroup v2 group needs it: a program assembled by hand,
loaded and attached. No map, no helper, no compiler."""

import ctypes
import errno
import os
import struct
from collections.abc import Sequence
from typing import Protocol

from engine.kernel.libc import KernelError, system_call

_PROG_LOAD = 5
_PROG_ATTACH = 8
_PROG_DETACH = 9
_PROG_GET_FD_BY_ID = 13
_PROG_QUERY = 16

_NAMES = {
    _PROG_LOAD: "load device filter",
    _PROG_ATTACH: "attach device filter",
    _PROG_DETACH: "detach device filter",
    _PROG_GET_FD_BY_ID: "find device filter",
    _PROG_QUERY: "list device filters",
}

_PROG_TYPE_CGROUP_DEVICE = 15
_CGROUP_DEVICE = 6
# With it a nested engine may attach filters of its own below; all of them have to agree.
_F_ALLOW_MULTI = 2

# linux/bpf.h: struct bpf_cgroup_dev_ctx, access_type = access << 16 | type.
_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}

_LDX_W = 0x61
_MOV64_REG = 0xBF
_MOV64_IMM = 0xB7
_AND32_IMM = 0x54
_RSH32_IMM = 0x74
_JNE_IMM = 0x55
_JNE_REG = 0x5D
_JEQ_IMM = 0x15
_EXIT = 0x95


class DeviceRule(Protocol):
    """What `device_program` reads; `engine.runtime.cgroups.DeviceRule` is one."""

    @property
    def allow(self) -> bool: ...
    @property
    def kind(self) -> str: ...
    @property
    def major(self) -> int | None: ...
    @property
    def minor(self) -> int | None: ...
    @property
    def access(self) -> str: ...


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """The eBPF program that decides as a v1 device list with these rules in this order would.

    The last rule that fits decides, so they are tried from the end; none fits: denied. An
    allowing rule fits if it has all that is asked, a denying one if it has any of it.
    """
    code = [
        _instruction(_LDX_W, 2, 1, 0),  # r2 = type
        _instruction(_AND32_IMM, 2, immediate=0xFFFF),
        _instruction(_LDX_W, 3, 1, 0),  # r3 = access
        _instruction(_RSH32_IMM, 3, immediate=16),
        _instruction(_LDX_W, 4, 1, 4),  # r4 = major
        _instruction(_LDX_W, 5, 1, 8),  # r5 = minor
    ]
    for rule in reversed(rules):
        block = _rule_block(rule)
        code += block
        if len(block) == 2:  # it fits everything: what would follow can't be reached
            return b"".join(code)
    code += _verdict(False)
    return b"".join(code)


def _rule_block(rule: DeviceRule) -> list[bytes]:
    """Instructions that end the program if the rule fits, else fall through to the next one."""
    verdict = _verdict(rule.allow)
    access = sum(_ACCESS[letter] for letter in set(rule.access))
    # Built from the end, because each jump says how many instructions it leaps over.
    block = verdict
    if access != 7:
        if rule.allow:
            # r1 = asked & granted; other than asked: does not fit
            block = [_instruction(_JNE_REG, 1, 3, len(block)), *block]
        else:
            block = [_instruction(_JEQ_IMM, 1, offset=len(block), immediate=0), *block]
        block = [
            _instruction(_MOV64_REG, 1, 3),
            _instruction(_AND32_IMM, 1, immediate=access),
            *block,
        ]
    if rule.minor is not None:
        block = [_different(5, rule.minor, len(block)), *block]
    if rule.major is not None:
        block = [_different(4, rule.major, len(block)), *block]
    if rule.kind != "a":
        block = [_different(2, _TYPES[rule.kind], len(block)), *block]
    return block


def _different(register: int, value: int, offset: int) -> bytes:
    return _instruction(_JNE_IMM, register, offset=offset, immediate=value)


def _verdict(allow: bool) -> list[bytes]:
    return [_instruction(_MOV64_IMM, 0, immediate=int(allow)), _instruction(_EXIT)]


def _instruction(
    code: int, target: int = 0, source: int = 0, offset: int = 0, *, immediate: int = 0
) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | target, offset, immediate)


def replace_device_filter(group: int, program: bytes) -> None:
    """Make `program` the only device filter of the cgroup open at `group`.

    The new one is attached before the old ones go: in between both have to agree, so nothing
    is open for a moment.
    """
    before = _attached(group)
    descriptor = _load(program)
    try:
        _bpf(_PROG_ATTACH, "=IIII", group, descriptor, _CGROUP_DEVICE, _F_ALLOW_MULTI)
    finally:
        os.close(descriptor)
    for identifier in before:
        try:
            old = _bpf(_PROG_GET_FD_BY_ID, "=III", identifier, 0, 0)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                continue
            raise
        try:
            _bpf(_PROG_DETACH, "=IIII", group, old, _CGROUP_DEVICE, 0)
        finally:
            os.close(old)


def _load(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    terms = ctypes.create_string_buffer(b"Apache-2.0")
    return _bpf(
        _PROG_LOAD,
        "=IIQQIIQII16s",
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(terms),
        0,
        0,
        0,
        0,
        0,
        b"pycompose_dev",
    )


def _attached(group: int) -> list[int]:
    """Ids of the device programs attached to the group itself."""
    room = 64  # the kernel's own limit
    found = (ctypes.c_uint32 * room)()
    request = struct.pack("=IIIIQI", group, _CGROUP_DEVICE, 0, 0, ctypes.addressof(found), room)
    attributes = ctypes.create_string_buffer(request, 128)
    _call(_PROG_QUERY, attributes)
    count = struct.unpack_from("=I", attributes.raw, 24)[0]
    return list(found[:count])


def _bpf(command: int, layout: str, *values: int | bytes) -> int:
    return _call(command, ctypes.create_string_buffer(struct.pack(layout, *values), 128))


def _call(command: int, attributes: "ctypes.Array[ctypes.c_char]") -> int:
    return system_call("bpf", command, attributes, len(attributes), path=_NAMES[command])
