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
    start, room = _arguments()
    if start and room > 1:
        ctypes.memmove(start, text.encode()[: room - 1].ljust(room, b"\0"), room)


@cache
def _arguments() -> tuple[int, int]:
    """Where they are, the same in each fork, and how long; zeros if that is not told."""
    fields = _stat(os.getpid())
    if fields is None or len(fields) < 47:
        return 0, 0
    return int(fields[45]), int(fields[46]) - int(fields[45])


def cgroup_paths(pid: int) -> dict[str, str]:
    """Controller list ("" for the unified hierarchy) -> path of the process's group."""
    with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as stream:
        lines = (line.rstrip("\n").split(":", 2) for line in stream)
        return {controllers: path for _, controllers, path in lines}
