"""A child of the server: waits for a call, becomes like a child of its caller, and runs the
program."""

from __future__ import annotations

import importlib
import io
import marshal
import os
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from compose.warm.caller import Refused, look_at, take_after, take_files, take_signals
from compose.warm.door import credentials
from compose.warm.programs import PROGRAMS
from compose.warm.stub import FILES

PATIENCE = 2.0  # seconds, for the caller to say what it wants, and go
BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """What the caller wants run, and what it has that isn't in /proc."""

    program: str
    arguments: list[str]
    path: list[str]
    environment: dict[str, str]
    umask: int
    numbers: list[int]  # of its files


def wait_for_call(control: socket.socket, world: tuple[object, ...]) -> Call:
    """Get a caller from the server, be like a process that it started, and let it say go. Where
    that can't be, this process ends, having done nothing: the caller does its work itself."""
    os.setpgid(0, 0)  # so that it can be stopped: the server's group isn't
    try:
        _, files, _, _ = socket.recv_fds(control, 1, 1, socket.MSG_CMSG_CLOEXEC)
        if not files:
            raise Refused  # the server ends
        connection = socket.socket(fileno=files[0])
        connection.settimeout(PATIENCE)
        pid, *ids = credentials(connection)
        caller = look_at(pid)
        if ids != [os.getuid(), os.getgid()] or caller.world() != world:
            raise Refused
        call = receive(connection)
        take_after(caller, files=len(call.numbers), highest=max((2, *call.numbers)))
        if control.recv(1) != b"G":  # our code is an old one
            raise Refused
        connection.sendall(b"R" + os.getpid().to_bytes(4, sys.byteorder))
        word, files, _, _ = socket.recv_fds(connection, 1, FILES + 1, socket.MSG_CMSG_CLOEXEC)
        if word != b"G":
            raise Refused
    except (Refused, OSError, ValueError):
        os._exit(0)
    # From here on this is the command, and what fails is its failure.
    control.close()
    connection.close()
    folder = files.pop(0)
    os.fchdir(folder)
    os.close(folder)
    take_files(files, call.numbers)
    open_streams(call.numbers)
    take_signals(caller)
    os.umask(call.umask)
    os.environ.clear()
    os.environ.update(call.environment)
    time.tzset()
    sys.argv, sys.path[:] = call.arguments, call.path
    Path("/proc/self/comm").write_text(call.program)
    return call


def receive(connection: socket.socket) -> Call:
    """Raises Refused, OSError, ValueError."""
    text = b""
    while len(text) < 8 or len(text) < 8 + int.from_bytes(text[:8], sys.byteorder):
        block = connection.recv(BLOCK)
        if not block:
            raise Refused
        text += block
    return Call(*marshal.loads(text[8:]))


def open_streams(numbers: list[int]) -> None:
    """sys.stdin, stdout and stderr, as the interpreter makes them when it starts; None for one
    that is closed."""
    own = sys.stdout
    assert isinstance(own, io.TextIOWrapper)  # of the server, by the same settings
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        stream = None
        if number in numbers:
            stream = open(  # noqa: SIM115 - stays open to the end
                number,
                "w" if number else "r",
                buffering=1 if number == 2 else -1,
                encoding=own.encoding,
                errors="backslashreplace" if number == 2 else own.errors,
                newline="\n",
                closefd=False,
            )
            stream.reconfigure(write_through=own.write_through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def run(call: Call) -> None:
    importlib.import_module(PROGRAMS[call.program]).command(is_warm=True)
