"""What /proc says about processes."""

import ctypes
import os
from functools import cache


def start_time(pid: int) -> int | None:
    """Clock ticks after boot at which the process began; None if there is none.

    With the pid it names a process for good: pids come round again, start times do not.
    """
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _stat(pid: int) -> list[bytes] | None:
    """Fields 3 and later of /proc/PID/stat: the second may hold blanks and brackets."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stream:
            return stream.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def set_command_line(text: str) -> None:
    """Write over this process's arguments, which `ps` and `top` show."""
    arguments = _arguments()
    if arguments is not None:
        room = len(arguments)
        arguments[:] = text.encode()[: room - 1].ljust(room, b"\0")


@cache
def _arguments() -> memoryview | None:
    """Where they are, the same in each fork; None if that is not told."""
    fields = _stat(os.getpid())
    if fields is None or len(fields) < 47 or fields[45] == b"0":
        return None
    begin, end = int(fields[45]), int(fields[46])
    return memoryview((ctypes.c_char * (end - begin)).from_address(begin)).cast("B")


def cgroup_paths(pid: int) -> dict[str, str]:
    """Controller list ("" for the unified hierarchy) -> path of the process's group."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
        lines = (line.rstrip("\n").split(":", 2) for line in stream)
        return {controllers: path for _, controllers, path in lines}
