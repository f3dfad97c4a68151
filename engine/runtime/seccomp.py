"""Seccomp: profile -> the classic BPF program that the kernel runs at every system call.

Pure. Shape of a program: architecture, then a binary search by number whose leaves say what
becomes of the call, at once or after looking at arguments.
"""

import errno
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import InvalidRequest, Unsupported
from engine.runtime.seccomp_default import default_profile
from engine.runtime.seccomp_profile import (
    Action,
    Argument,
    Condition,
    Operator,
    Profile,
    Rule,
    parse_profile,
)
from engine.runtime.syscalls import AARCH64, I386, X32_ONLY, X86_64

__all__ = ["Profile", "compile_filter", "default_profile", "parse_profile"]

# An instruction before it is packed: code, jump if true, jump if false, constant.
Instruction = tuple[int, int, int, int]

_LOAD = 0x20  # A = 32 bits of struct seccomp_data at the constant
_AND = 0x54
_JUMP = 0x05
_EQUAL = 0x15
_GREATER = 0x25
_NOT_LESS = 0x35
_ANY_BIT = 0x45
_RETURN = 0x06

_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT = 0x40000000
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_FAR = 255  # a conditional jump has eight bits


@dataclass(frozen=True, slots=True)
class _Architecture:
    audit: int  # AUDIT_ARCH_*, linux/audit.h
    numbers: Mapping[str, int]
    more_numbers: Mapping[str, int]  # above those, of a dialect that shares the rest
    has_wide_arguments: bool


_X86_64 = _Architecture(0xC000003E, X86_64, {}, True)
_X86_64_AND_X32 = _Architecture(0xC000003E, X86_64, X32_ONLY, True)
_I386 = _Architecture(0x40000003, I386, {}, False)
_AARCH64 = _Architecture(0xC00000B7, AARCH64, {}, True)

# uname -m -> libseccomp's name of the native architecture, and Go's, which profiles use.
_NATIVE = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64"),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64"),
}


@dataclass(frozen=True, slots=True)
class _Decision:
    """What becomes of one call: the first of `cases` whose arguments all fit, else `final`."""

    final: int
    cases: tuple[tuple[tuple[Argument, ...], int], ...] = ()


def compile_filter(
    profile: Profile,
    capabilities: frozenset[str],
    *,
    kernel: tuple[int, int],
    machine: str = platform.machine(),
) -> bytes:
    """The program for a process with this bounding set, as seccomp(2) takes it.

    Calls newer than the newest that the profile names fail with ENOSYS instead of the default
    error, so that a libc falls back to an older one. A call by a foreign architecture ends the
    process. Raises InvalidRequest if the program gets too long for the kernel.
    """
    if machine not in _NATIVE:
        raise Unsupported(f"cannot compile a seccomp filter for {machine}")
    native, go_name = _NATIVE[machine]
    rules = [rule for rule in profile.rules if _applies(rule, capabilities, go_name, kernel)]
    sections: list[Instruction] = []
    for architecture in _architectures(profile, native):
        body = _section(profile, rules, architecture)
        sections += _unless_equal_skip(architecture.audit, body)
    code = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        *sections,
        (_RETURN, 0, 0, Action.KILL_PROCESS.value),
    ]
    if len(code) > _MAX_INSTRUCTIONS:
        raise InvalidRequest(
            f"seccomp profile: {len(code)} instructions, and the kernel takes {_MAX_INSTRUCTIONS}"
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


# --- which rules, which architectures -----------------------------------------------------------


def _applies(
    rule: Rule, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]
) -> bool:
    return _includes(rule.includes, capabilities, architecture, kernel) and not _excludes(
        rule.excludes, capabilities, architecture, kernel
    )


def _includes(
    condition: Condition, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]
) -> bool:
    if condition.architectures and architecture not in condition.architectures:
        return False
    if condition.kernel and kernel < condition.kernel:
        return False
    return condition.capabilities <= capabilities


def _excludes(
    condition: Condition, capabilities: frozenset[str], architecture: str, kernel: tuple[int, int]
) -> bool:
    if architecture in condition.architectures or condition.capabilities & capabilities:
        return True
    return condition.kernel is not None and kernel >= condition.kernel


def _architectures(profile: Profile, native: str) -> list[_Architecture]:
    """Those to let in. The native one always is; those of other machines can't occur here."""
    named = {
        *profile.architectures.get(None, ()),
        *profile.architectures.get(native, ()),
    }
    if native == "SCMP_ARCH_AARCH64":
        # 32-bit ARM programs have no table here, and are ended as foreign.
        return [_AARCH64]
    first = _X86_64_AND_X32 if "SCMP_ARCH_X32" in named else _X86_64
    return [first, _I386] if "SCMP_ARCH_X86" in named else [first]


# --- what becomes of each number ----------------------------------------------------------------


def _section(
    profile: Profile, rules: Sequence[Rule], architecture: _Architecture
) -> list[Instruction]:
    """The program for calls of one architecture."""
    code: list[Instruction] = [(_LOAD, 0, 0, _NUMBER_AT)]
    if architecture is _X86_64_AND_X32:
        # x32 shares the numbers of x86_64, and has some of its own above 511 that are nothing
        # without the bit. So one search serves both.
        code += [(_ANY_BIT, 0, 1, _X32_BIT), (_AND, 0, 0, ~_X32_BIT & 0xFFFFFFFF)]
    elif architecture is _X86_64:
        code += [(_NOT_LESS, 0, 1, _X32_BIT), (_RETURN, 0, 0, Action.KILL_PROCESS.value)]
    spans = _spans(profile, rules, architecture)
    return code + _search(spans, architecture.has_wide_arguments)


def _spans(
    profile: Profile, rules: Sequence[Rule], architecture: _Architecture
) -> list[tuple[int, _Decision]]:
    """(first number, decision) of each run of numbers that are decided alike, from 0 on."""
    by_name: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in rule.names:
            by_name.setdefault(name, []).append(rule)
    default = _code(profile.default_action, profile.default_errno)
    decided = {
        table[name]: _decide(by_name.get(name, ()), default)
        for table in (architecture.numbers, architecture.more_numbers)
        for name in table
        if name in by_name or table is architecture.more_numbers
    }
    # Also what a rule for other capabilities or kernels names is known, and no newcomer.
    listed = {name for rule in profile.rules for name in rule.names}
    known = [number for name, number in architecture.numbers.items() if name in listed]
    beyond = default
    if not profile.default_action.lets_pass:
        beyond = _code(Action.ERRNO, errno.ENOSYS)
    after = max(known, default=-1) + 1
    spans: list[tuple[int, _Decision]] = []
    edges = {0, after, *decided, *(number + 1 for number in decided)}
    for start in sorted(edges):
        otherwise = _Decision(beyond if start >= after else default)
        decision = decided.get(start, otherwise)
        if not spans or spans[-1][1] != decision:
            spans.append((start, decision))
    return spans


def _decide(rules: Sequence[Rule], default: int) -> _Decision:
    """Rules about arguments come first, in their order; of those without, the strictest wins."""
    cases: list[tuple[tuple[Argument, ...], int]] = []
    finals: list[tuple[Action, int]] = []
    for rule in rules:
        code = _code(rule.action, rule.errno)
        indices = [argument.index for argument in rule.arguments]
        if not rule.arguments:
            finals.append((rule.action, code))
        elif len(set(indices)) < len(indices):
            cases += [((argument,), code) for argument in rule.arguments]
        else:
            cases.append((rule.arguments, code))
    final = min(finals, key=lambda found: _STRICTNESS.index(found[0]))[1] if finals else default
    while cases and cases[-1][1] == final:
        cases.pop()
    return _Decision(final, tuple(cases))


_STRICTNESS = (
    Action.KILL_PROCESS,
    Action.KILL_THREAD,
    Action.TRAP,
    Action.ERRNO,
    Action.TRACE,
    Action.LOG,
    Action.ALLOW,
)


def _code(action: Action, number: int | None) -> int:
    base: int = action.value
    if action in (Action.ERRNO, Action.TRACE):
        return base | (errno.EPERM if number is None else number)
    return base


# --- instructions -------------------------------------------------------------------------------


def _search(spans: Sequence[tuple[int, _Decision]], wide: bool) -> list[Instruction]:
    """Binary search in spans; every path ends in a return."""
    if len(spans) == 1:
        return _leaf(spans[0][1], wide)
    middle = len(spans) // 2
    lower = _search(spans[:middle], wide)
    upper = _search(spans[middle:], wide)
    pivot = spans[middle][0]
    if len(lower) <= _FAR:
        return [(_NOT_LESS, len(lower), 0, pivot), *lower, *upper]
    return [(_NOT_LESS, 0, 1, pivot), (_JUMP, 0, 0, len(lower)), *lower, *upper]


def _unless_equal_skip(value: int, body: list[Instruction]) -> list[Instruction]:
    return [(_EQUAL, 1, 0, value), (_JUMP, 0, 0, len(body)), *body]


def _leaf(decision: _Decision, wide: bool) -> list[Instruction]:
    code: list[Instruction] = []
    for arguments, result in decision.cases:
        # From the end, since each test must know how far it leaps if it fails.
        case: list[Instruction] = [(_RETURN, 0, 0, result)]
        for argument in reversed(arguments):
            test = _wide_test if wide else _narrow_test
            case = test(argument, len(case)) + case
        code += case
    return [*code, (_RETURN, 0, 0, decision.final)]


def _narrow_test(argument: Argument, fail: int) -> list[Instruction]:
    """32-bit programs: an argument is 32 bits, and so is what it is compared with."""
    value, second = argument.value & 0xFFFFFFFF, argument.value_two & 0xFFFFFFFF
    load = (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument.index)
    match argument.operator:
        case Operator.EQ:
            return [load, (_EQUAL, 0, fail, value)]
        case Operator.NE:
            return [load, (_EQUAL, fail, 0, value)]
        case Operator.GT:
            return [load, (_GREATER, 0, fail, value)]
        case Operator.LE:
            return [load, (_GREATER, fail, 0, value)]
        case Operator.GE:
            return [load, (_NOT_LESS, 0, fail, value)]
        case Operator.LT:
            return [load, (_NOT_LESS, fail, 0, value)]
        case Operator.MASKED_EQ:
            return [load, (_AND, 0, 0, value), (_EQUAL, 0, fail, second)]


def _wide_test(argument: Argument, fail: int) -> list[Instruction]:
    """64 bits in two halves: the upper one decides, the lower one if the upper are equal."""
    high = argument.value >> 32
    lower_half = _narrow_test(argument, fail)
    rest = len(lower_half)
    offset = _ARGUMENTS_AT + 8 * argument.index + 4  # little-endian, as both machines are
    load = (_LOAD, 0, 0, offset)
    match argument.operator:
        case Operator.EQ:
            return [load, (_EQUAL, 0, rest + fail, high), *lower_half]
        case Operator.NE:
            return [load, (_EQUAL, 0, rest, high), *lower_half]
        case Operator.GT | Operator.GE:
            return [
                load,
                (_GREATER, rest + 1, 0, high),
                (_EQUAL, 0, rest + fail, high),
                *lower_half,
            ]
        case Operator.LT | Operator.LE:
            return [
                load,
                (_GREATER, rest + 1 + fail, 0, high),
                (_EQUAL, 0, rest, high),
                *lower_half,
            ]
        case Operator.MASKED_EQ:
            wanted = argument.value_two >> 32
            if high == 0 and wanted == 0:
                return lower_half
            return [load, (_AND, 0, 0, high), (_EQUAL, 0, rest + fail, wanted), *lower_half]
