"""Starts a server after a command that ran cold, for the next ones; what it costs the command is
one vfork."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import compose
from compose.warm.caller import namespaces
from compose.warm.door import credentials, peer_of
from compose.warm.place import allows, engine_socket, server_folder, server_name, shaping

_COMMAND = ("-m", "compose.warm.server")


def start_server(engine: str, environment: Mapping[str, str]) -> None:
    """`engine`: the UNIX socket of the built-in engine that the command spoke to. Only where the
    next command would look for it, where the engine is ours, and where we live in its namespaces:
    a server must keep alive no others."""
    if not (engine and engine == engine_socket(environment) and allows(environment)):
        return
    name = server_name(engine, environment)
    try:
        if peer_of(Path(server_folder(environment), name)):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(engine)
            pid, uid, _ = credentials(connection)
            if uid != os.getuid() or namespaces(pid) != namespaces("self"):
                return
            lifeline = connection.fileno()
            process = subprocess.Popen(
                [sys.executable, *_COMMAND, engine, str(lifeline), name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(lifeline,),
                start_new_session=True,
                cwd=Path(compose.__file__).parent.parent,  # where `-m compose...` is found
                # Of the rest it would only keep secrets for longer.
                env=shaping(environment),
            )
    except OSError:  # the next command is as slow as this one
        return
    process.returncode = 0  # not waited for, since it outlives us


def servers(engine: str) -> list[int]:
    """The pids of those that belong to the engine at this UNIX socket, whoever started them. By
    their command line: one that isn't ready yet has no other sign. Their children, the commands
    that run now, have it too; a server leads its session."""
    words = b"\0".join(map(os.fsencode, (*_COMMAND, engine, "")))
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended
            if process.name.isdecimal() and words in (process / "cmdline").read_bytes():
                pid = int(process.name)
                if os.getsid(pid) == pid:
                    found.append(pid)
    return found
