"""What a process started by the caller would have from it, and a child of the server has to take.
What it can't take has to be the same on both sides, or the child refuses. See proc(5)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Of /proc/PID/status: who a process is, and what the kernel lets it do.
_IDENTITY = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
             "Seccomp", "Cpus_allowed", "Mems_allowed")  # fmt: skip
# Audit's user, the kernel's compatibility flags, the security module's label.
_FILES = ("loginuid", "personality", "attr/current")
_LIMITS = tuple(number for name, number in vars(resource).items() if name.startswith("RLIMIT_"))


class Refused(Exception):
    """The caller is of another kind than this process, and has to do its own work."""


@dataclass(frozen=True, slots=True)
class Process:
    """What /proc says of one."""

    pid: int | str  # "self"
    status: Mapping[str, str]

    def world(self) -> tuple[object, ...]:
        """What one process can't take over from another."""
        root = os.stat(f"/proc/{self.pid}/root")
        return (
            namespaces(self.pid),
            (root.st_dev, root.st_ino),
            [self.status.get(name) for name in _IDENTITY],
            [read(self.pid, name) for name in _FILES],
            os.sched_getscheduler(0 if self.pid == "self" else int(self.pid)),
        )

    def signals(self, field: str) -> set[int]:
        """The numbers in a mask of its status."""
        mask = int(self.status[field], 16)
        return {number for number in range(1, 65) if mask >> (number - 1) & 1}


def look_at(pid: int | str) -> Process:
    with open(f"/proc/{pid}/status") as file:
        lines = (line.partition(":") for line in file)
        return Process(pid, {name: value.strip() for name, _, value in lines})


def namespaces(pid: int | str) -> list[str]:
    """Raises OSError for a process of another user."""
    folder = f"/proc/{pid}/ns"
    return [os.readlink(f"{folder}/{name}") for name in sorted(os.listdir(folder))]


def read(pid: int | str, name: str) -> str:
    """ "" where this kernel has none."""
    try:
        with open(f"/proc/{pid}/{name}") as file:
            return file.read()
    except OSError:
        return ""


def take_after(caller: Process, *, files: int, highest: int) -> None:
    """Be as a child of it would be, in what /proc shows: there is to be room for so many files, up
    to that number. Raises Refused, OSError."""
    assert isinstance(caller.pid, int)
    _join_groups(caller.pid)
    for limit in _LIMITS:
        wanted = resource.prlimit(caller.pid, limit)
        if wanted != resource.getrlimit(limit):
            resource.setrlimit(limit, wanted)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < highest + files + 16:
        raise Refused
    nice = os.getpriority(os.PRIO_PROCESS, caller.pid)
    if nice != os.getpriority(os.PRIO_PROCESS, 0):
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    score = read(caller.pid, "oom_score_adj")
    if score != read("self", "oom_score_adj"):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(score)


def take_signals(caller: Process) -> None:
    """What it ignores and blocks; what it handles is as after exec(2)."""
    ignored = caller.signals("SigIgn")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
    if signal.SIGINT not in ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, caller.signals("SigBlk"))


def _join_groups(pid: int) -> None:
    """The caller's cgroups: its limits hold for us, and what we use is counted there."""
    theirs, own = read(pid, "cgroup"), read("self", "cgroup")
    for line in sorted({*theirs.splitlines()} - {*own.splitlines()}):
        _, controllers, path = line.split(":", 2)
        # Version 2 has no names: it is the whole tree, or beside those of version 1.
        alone = os.path.exists("/sys/fs/cgroup/cgroup.procs")
        name = controllers.removeprefix("name=") or ("." if alone else "unified")
        with open(f"/sys/fs/cgroup/{name}{path}/cgroup.procs", "w") as file:
            file.write("0")


def take_files(received: Sequence[int], numbers: Sequence[int]) -> None:
    """Have just these files open, each by its number."""
    beyond = max((2, *numbers)) + 1
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, beyond) for file in received]
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in moved:
            with contextlib.suppress(OSError):  # the one that listed the folder
                os.close(int(name))
    for file, number in zip(moved, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
