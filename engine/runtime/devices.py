"""What is in a container's /dev and what its device cgroup lets through, in OCI form.

Pure. The node and the right to open it are two things: mknod(2) works on any number, open(2)
only on what a rule allows.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from engine.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Device:
    """One node to make. `kind` is OCI's type letter: c, b or p."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0

    def to_oci(self) -> dict[str, object]:
        return {
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the device cgroup. `kind` is a, c or b; None is any number."""

    allow: bool
    kind: str
    major: int | None
    minor: int | None
    access: str

    def to_oci(self) -> dict[str, object]:
        rule: dict[str, object] = {"allow": self.allow, "type": self.kind, "access": self.access}
        if self.major is not None:
            rule["major"] = self.major
        if self.minor is not None:
            rule["minor"] = self.minor
        return rule


DEFAULT_NODES: tuple[Device, ...] = (
    Device("/dev/null", "c", 1, 3),
    Device("/dev/zero", "c", 1, 5),
    Device("/dev/full", "c", 1, 7),
    Device("/dev/random", "c", 1, 8),
    Device("/dev/urandom", "c", 1, 9),
    Device("/dev/tty", "c", 5, 0),
)

# name -> target, as runtime-spec, config-linux.md "Default Devices" and Docker have them.
LINKS: tuple[tuple[str, str], ...] = (
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
)

DENY_ALL = Rule(False, "a", None, None, "rwm")
ALLOW_ALL = Rule(True, "a", None, None, "rwm")

# In order: a later rule wins. /dev/net/tun (10:200), which older runtimes let through, is not
# among them, and opening /dev/fuse (10:229) is denied by name as in Docker.
DEFAULT_RULES: tuple[Rule, ...] = (
    DENY_ALL,
    Rule(True, "c", None, None, "m"),
    Rule(True, "b", None, None, "m"),
    *(Rule(True, node.kind, node.major, node.minor, "rwm") for node in DEFAULT_NODES),
    Rule(True, "c", 5, 1, "rwm"),  # console
    Rule(True, "c", 5, 2, "rwm"),  # ptmx
    Rule(True, "c", 136, None, "rwm"),  # the terminals of its own devpts
    Rule(False, "c", 10, 229, "rw"),  # on v2 it would take mknod(2) too, which v1 lets pass
)

_RULE = re.compile(r"([acb]) ([0-9]{1,10}|\*):([0-9]{1,10}|\*) ([rwm]{1,3})")


def parse_rule(text: str) -> Rule:
    """A `--device-cgroup-rule`, as in "c 188:* rmw". Raises InvalidRequest."""
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"invalid device cgroup rule format: '{text}'")
    kind, major, minor, access = match.groups()
    return Rule(True, kind, _number(major), _number(minor), parse_access(access))


def parse_access(text: str) -> str:
    """The permissions of a `--device`, as "rwm" or a part of it. Raises InvalidRequest."""
    if not text or set(text) - set("rwm") or len(set(text)) != len(text):
        raise InvalidRequest(f"invalid device mode: {text}")
    return "".join(letter for letter in "rwm" if letter in text)


def rules(devices: Iterable[tuple[Device, str]], extra: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of an ordinary container with these host devices, each with its permissions."""
    given = tuple(
        Rule(True, device.kind, device.major, device.minor, access) for device, access in devices
    )
    return DEFAULT_RULES + given + tuple(extra)


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)
