"""Which server a command would ask, and by what name. Every command imports this before anything
else: it needs nothing that the interpreter hasn't loaded by itself."""

from __future__ import annotations

import os
import sys
from binascii import crc32

SWITCH = "PYCOMPOSE_WARM"  # 0: every command runs in a process of its own
# By these the interpreter, its libraries and the loader behave from their start on.
_SHAPING = ("PYTHON", "LC_", "LD_", "OPENSSL_", "MALLOC_", "GLIBC_")
_MEASURING = frozenset(("coverage", "pydevd"))

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def runtime_folder(uid: int, environment: Mapping[str, str]) -> str:
    """Where sockets of the built-in engine are: root's in the machine's folder, a user's in
    XDG's."""
    if uid == 0:
        return "/run/pycompose"
    return (environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}") + "/pycompose"


def engine_socket(environment: Mapping[str, str]) -> str:
    """The UNIX socket of the engine that the environment names; "": it is none on this machine."""
    named = environment.get("PYCOMPOSE_HOST") or environment.get("DOCKER_HOST")
    if named:
        path = named.removeprefix("unix://")
        return path if path.startswith("/") else ""
    if environment.get("DOCKER_CONTEXT"):
        return ""
    return runtime_folder(os.getuid(), environment) + "/engine.sock"


def allows(environment: Mapping[str, str]) -> bool:
    """Whether a warm process may do this one's work: not where somebody measures or traces it, or
    gave the interpreter options of its own."""
    option = "".join(sys.orig_argv[1:2])
    return not (
        environment.get(SWITCH, "1").lower() in ("0", "no", "off", "false")
        or (option.startswith("-") and option != "-m")
        or sys.gettrace()
        or sys.getprofile()
        or not _MEASURING.isdisjoint(sys.modules)
        or (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())
    )


def shaping(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_SHAPING) or name == "LANG"
    }


def server_folder(environment: Mapping[str, str]) -> str:
    return runtime_folder(os.getuid(), environment) + "/warm"


def server_name(socket: str, environment: Mapping[str, str]) -> str:
    """One for each engine and kind of caller. The interpreter, what it was told in the
    environment, and where the program lies make the kind."""
    kind = (
        socket, __file__, sys.executable, sys.prefix, sys.version,
        sorted(shaping(environment).items()),
    )  # fmt: skip
    return f"{crc32(repr(kind).encode(errors='surrogateescape')):08x}.sock"
