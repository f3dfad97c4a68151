"""Seccomp profiles in the language of OCI and Docker: the model, and JSON -> model.

Pure. Whatever is not understood is refused: a filter that means less than was written would be
worse than none.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from engine.errors import InvalidRequest, Unsupported
from engine.runtime.syscalls import AARCH64, I386, X86_64

_MAX_ERRNO = 4095  # the kernel cuts what is greater


class Action(Enum):
    """What becomes of a call; the values are the kernel's return codes (linux/seccomp.h)."""

    KILL_PROCESS = 0x80000000
    KILL_THREAD = 0x00000000
    TRAP = 0x00030000
    ERRNO = 0x00050000
    TRACE = 0x7FF00000
    LOG = 0x7FFC0000
    ALLOW = 0x7FFF0000

    @property
    def lets_pass(self) -> bool:
        return self in (Action.TRACE, Action.LOG, Action.ALLOW)


class Operator(Enum):
    NE = "SCMP_CMP_NE"
    LT = "SCMP_CMP_LT"
    LE = "SCMP_CMP_LE"
    EQ = "SCMP_CMP_EQ"
    GE = "SCMP_CMP_GE"
    GT = "SCMP_CMP_GT"
    MASKED_EQ = "SCMP_CMP_MASKED_EQ"  # argument & value == value_two


@dataclass(frozen=True, slots=True)
class Argument:
    """A comparison of one argument of the call, unsigned, 64 bits."""

    index: int
    value: int
    operator: Operator
    value_two: int = 0


@dataclass(frozen=True, slots=True)
class Condition:
    """On what machine, with which capabilities, a rule stands in the profile at all."""

    capabilities: frozenset[str] = frozenset()
    architectures: frozenset[str] = frozenset()  # Go's names: amd64, arm64
    kernel: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """All of `arguments` have to fit. Several for the same argument: any of them, each a rule of
    its own, as runc reads it."""

    names: tuple[str, ...]
    action: Action
    errno: int | None = None
    arguments: tuple[Argument, ...] = ()
    includes: Condition = Condition()
    excludes: Condition = Condition()


@dataclass(frozen=True, slots=True)
class Profile:
    default_action: Action
    default_errno: int | None
    rules: tuple[Rule, ...]
    # SCMP_ARCH_X86_64 and so on: native -> what runs beside it; None: listed for all machines.
    architectures: Mapping[str | None, tuple[str, ...]] = field(default_factory=dict)

    @property
    def missed(self) -> tuple[str, ...]:
        """Names that no machine has, of calls that are to be forbidden where others pass."""
        forbidding = [rule for rule in self.rules if not rule.action.lets_pass]
        names = {name for rule in forbidding for name in rule.names} - _KNOWN
        return tuple(sorted(names)) if self.default_action.lets_pass else ()


_ACTIONS = {
    "SCMP_ACT_KILL": Action.KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": Action.KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": Action.KILL_PROCESS,
    "SCMP_ACT_TRAP": Action.TRAP,
    "SCMP_ACT_ERRNO": Action.ERRNO,
    "SCMP_ACT_TRACE": Action.TRACE,
    "SCMP_ACT_LOG": Action.LOG,
    "SCMP_ACT_ALLOW": Action.ALLOW,
}
_ARCHITECTURE = re.compile(r"SCMP_ARCH_[A-Z0-9_]+")
_KERNEL = re.compile(r"([0-9]{1,4})\.([0-9]{1,4})")
_KNOWN = X86_64.keys() | I386.keys() | AARCH64.keys()
_PROFILE_KEYS = frozenset(
    ("defaultAction", "defaultErrnoRet", "architectures", "archMap", "syscalls", "flags")
)
_RULE_KEYS = frozenset(
    ("name", "names", "action", "errnoRet", "args", "comment", "includes", "excludes")
)


def parse_profile(text: str | bytes | Mapping[str, object]) -> Profile:
    """A profile from JSON (text or decoded). Raises InvalidRequest, and Unsupported for what
    needs a supervisor process."""
    document: object = text
    if isinstance(text, (str, bytes)):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest(f"Decoding seccomp profile failed: {error}") from error
    root = _object(document, "the profile")
    if root.get("listenerPath") or root.get("listenerMetadata"):
        raise Unsupported("seccomp profile: a listener for SCMP_ACT_NOTIFY is not supported")
    _known_keys(root, _PROFILE_KEYS | {"listenerPath", "listenerMetadata"}, "the profile")
    # TSYNC is about other threads; a process that starts a container has one.
    if flags := [f for f in _list(root, "flags") if f != "SECCOMP_FILTER_FLAG_TSYNC"]:
        raise Unsupported(f"seccomp profile: flag {flags[0]!r} is not supported")
    default = _action(root.get("defaultAction"), "defaultAction")
    rules = tuple(_rule(item) for item in _list(root, "syscalls"))
    return Profile(default, _errno(root, "defaultErrnoRet"), rules, _architectures(root))


def _rule(item: object) -> Rule:
    """Names that no machine has are taken: profiles are written for kernels of all ages."""
    rule = _object(item, "a rule")
    _known_keys(rule, _RULE_KEYS, "a rule")
    names = _texts(rule, "names")
    if name := rule.get("name"):
        if names:
            raise InvalidRequest("seccomp profile: a rule has both 'name' and 'names'")
        names = (_text(name, "name"),)
    return Rule(
        names,
        _action(rule.get("action"), "action"),
        _errno(rule, "errnoRet"),
        tuple(_argument(argument) for argument in _list(rule, "args")),
        _condition(rule, "includes"),
        _condition(rule, "excludes"),
    )


def _argument(item: object) -> Argument:
    argument = _object(item, "an argument")
    _known_keys(argument, frozenset(("index", "value", "valueTwo", "op")), "an argument")
    index = _integer(argument.get("index", 0), "index", 5)
    operator = argument.get("op")
    if operator not in {member.value for member in Operator}:
        raise InvalidRequest(f"seccomp profile: unknown operator {operator!r}")
    return Argument(
        index,
        _integer(argument.get("value", 0), "value", 2**64 - 1),
        Operator(operator),
        _integer(argument.get("valueTwo", 0), "valueTwo", 2**64 - 1),
    )


def _condition(rule: Mapping[str, object], key: str) -> Condition:
    condition = _object(rule.get(key) or {}, key)
    _known_keys(condition, frozenset(("caps", "arches", "minKernel")), key)
    kernel = None
    if written := condition.get("minKernel"):
        match = _KERNEL.fullmatch(_text(written, "minKernel"))
        if match is None:
            raise InvalidRequest(f"seccomp profile: invalid kernel version {written!r}")
        kernel = (int(match[1]), int(match[2]))
    return Condition(
        frozenset(_texts(condition, "caps")), frozenset(_texts(condition, "arches")), kernel
    )


def _architectures(root: Mapping[str, object]) -> dict[str | None, tuple[str, ...]]:
    listed = _texts(root, "architectures")
    mapped = _list(root, "archMap")
    if listed and mapped:
        raise InvalidRequest(
            "seccomp profile: both 'architectures' and 'archMap' were specified, use either"
        )
    found: dict[str | None, tuple[str, ...]] = {}
    if listed:
        found[None] = listed
    for item in mapped:
        entry = _object(item, "archMap")
        key = _text(entry.get("architecture"), "architecture")
        found[key] = _texts(entry, "subArchitectures")
    for native, others in found.items():
        for architecture in (*others, *([native] if native else [])):
            if not _ARCHITECTURE.fullmatch(architecture):
                raise InvalidRequest(f"seccomp profile: unknown architecture {architecture!r}")
    return found


# --- decoding ---------------------------------------------------------------------------------


def _action(value: object, key: str) -> Action:
    if value == "SCMP_ACT_NOTIFY":
        raise Unsupported("seccomp profile: SCMP_ACT_NOTIFY is not supported")
    if not isinstance(value, str) or value not in _ACTIONS:
        raise InvalidRequest(f"seccomp profile: unknown {key} {value!r}")
    return _ACTIONS[value]


def _errno(mapping: Mapping[str, object], key: str) -> int | None:
    value = mapping.get(key)
    return None if value is None else _integer(value, key, _MAX_ERRNO)


def _integer(value: object, key: str, highest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= highest:
        raise InvalidRequest(f"seccomp profile: {key} {value!r} is not within 0 to {highest}")
    return value


def _object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"seccomp profile: {what} is not an object")
    return value


def _list(mapping: Mapping[str, object], key: str) -> list[object]:
    value = mapping.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"seccomp profile: {key} is not a list")
    return value


def _text(value: object, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"seccomp profile: {key} {value!r} is not a name")
    return value


def _texts(mapping: Mapping[str, object], key: str) -> tuple[str, ...]:
    return tuple(_text(item, key) for item in _list(mapping, key))


def _known_keys(mapping: Mapping[str, object], known: frozenset[str], what: str) -> None:
    if unknown := sorted(mapping.keys() - known):
        raise InvalidRequest(f"seccomp profile: {what} has an unknown field {unknown[0]!r}")
