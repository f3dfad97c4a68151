"""The processes of a container, and their threads, read from /proc."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """Or one thread of it: what is said of the whole process is the same for all of them."""

    pid: int
    thread: int
    parent: int
    group: int
    session: int
    terminal: str  # "?" = none
    foreground: int  # the process group that the terminal belongs to
    uid: int
    effective_uid: int
    gid: int
    effective_gid: int
    state: str
    flags: int
    priority: int
    nice: int
    threads: int
    processor: int
    cpu_time: float  # seconds
    started: float  # seconds since the epoch
    age: float  # seconds
    virtual: int  # bytes
    resident: int  # bytes
    locked: int  # bytes
    waits_in: str  # the kernel's function, "" = none
    name: str
    command: str


def read_process(pid: int) -> Process | None:
    """None for one that has ended."""
    return _read(f"/proc/{pid}", pid, pid)


def read_threads(pid: int) -> Iterator[Process]:
    try:
        threads = sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return
    for thread in threads:
        found = _read(f"/proc/{pid}/task/{thread}", pid, thread)
        if found is not None:
            yield found


def _read(path: str, pid: int, thread: int) -> Process | None:
    folder = Path(path)
    try:
        stat = (folder / "stat").read_text(errors="replace")
        status = (folder / "status").read_text(errors="replace")
        arguments = (folder / "cmdline").read_bytes()
        waits_in = (folder / "wchan").read_text()
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold blanks and brackets.
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    age = uptime - int(fields[19]) / _TICKS
    words = arguments.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    facts = {
        name: text.split() for name, _, text in (x.partition(":") for x in status.splitlines())
    }
    uids, gids = facts["Uid"], facts["Gid"]
    return Process(
        pid=pid,
        thread=thread,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        terminal=_terminal(int(fields[4])),
        foreground=int(fields[5]),
        uid=int(uids[0]),
        effective_uid=int(uids[1]),
        gid=int(gids[0]),
        effective_gid=int(gids[1]),
        state=fields[0],
        flags=int(fields[6]),
        priority=int(fields[15]),
        nice=int(fields[16]),
        threads=int(fields[17]),
        processor=int(fields[36]),
        cpu_time=(int(fields[11]) + int(fields[12])) / _TICKS,
        started=time.time() - age,
        age=max(age, 0),
        virtual=int(fields[20]),
        # Of a kernel thread there is none. What stat says of it is not exact (proc(5)).
        resident=int(facts.get("VmRSS", ["0"])[0]) * 1024,
        locked=int(facts.get("VmLck", ["0"])[0]) * 1024,
        waits_in="" if waits_in == "0" else waits_in,
        name=name,
        command=words or f"[{name}]",
    )


def _terminal(device: int) -> str:
    major, minor = os.major(device), os.minor(device)
    return f"pts/{minor}" if 136 <= major < 144 else "?"
