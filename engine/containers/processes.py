"""`top`: the processes of a container, read from /proc as `ps` would show them."""

import os
import pwd
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.containers.model import Processes
from engine.errors import InvalidRequest

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY = os.sysconf("SC_PHYS_PAGES") * _PAGE


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    parent: int
    group: int
    uid: int
    state: str
    terminal: str
    nice: int
    cpu_time: float  # seconds
    started: float  # seconds since the epoch
    age: float  # seconds
    virtual: int  # bytes
    resident: int  # bytes
    name: str
    command: str


def read_process(pid: int) -> Process | None:
    """None for one that has ended."""
    folder = Path(f"/proc/{pid}")
    try:
        stat = (folder / "stat").read_text(errors="replace")
        arguments = (folder / "cmdline").read_bytes()
        uid = folder.stat().st_uid
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold blanks and brackets.
    name = stat[stat.index("(") + 1 : stat.rindex(")")]
    fields = stat[stat.rindex(")") + 2 :].split()
    age = uptime - int(fields[19]) / _TICKS
    words = arguments.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        uid=uid,
        state=fields[0],
        terminal=_terminal(int(fields[4])),
        nice=int(fields[16]),
        cpu_time=(int(fields[11]) + int(fields[12])) / _TICKS,
        started=time.time() - age,
        age=max(age, 0.01),
        virtual=int(fields[20]),
        resident=int(fields[21]) * _PAGE,
        name=name,
        command=words or f"[{name}]",
    )


def _terminal(device: int) -> str:
    major, minor = os.major(device), os.minor(device)
    return f"pts/{minor}" if 136 <= major < 144 else "?"


def _user(process: Process) -> str:
    try:
        return pwd.getpwuid(process.uid).pw_name
    except KeyError:
        return str(process.uid)


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _start(process: Process) -> str:
    form = "%H:%M" if process.age < 86400 else "%b%d"
    return time.strftime(form, time.localtime(process.started))


def _percent(process: Process) -> float:
    return 100 * process.cpu_time / process.age


# The names of `ps -o`: title and value.
COLUMNS: Mapping[str, tuple[str, Callable[[Process], str]]] = {
    "user": ("USER", _user),
    "uid": ("UID", lambda process: str(process.uid)),
    "pid": ("PID", lambda process: str(process.pid)),
    "ppid": ("PPID", lambda process: str(process.parent)),
    "pgid": ("PGID", lambda process: str(process.group)),
    "c": ("C", lambda process: str(int(_percent(process)))),
    "pmem": ("%MEM", lambda process: f"{100 * process.resident / _MEMORY:.1f}"),
    "pcpu": ("%CPU", lambda process: f"{_percent(process):.1f}"),
    "vsz": ("VSZ", lambda process: str(process.virtual // 1024)),
    "rss": ("RSS", lambda process: str(process.resident // 1024)),
    "tty": ("TT", lambda process: process.terminal),
    "stat": ("STAT", lambda process: process.state),
    "nice": ("NI", lambda process: str(process.nice)),
    "stime": ("STIME", _start),
    "time": ("TIME", lambda process: _clock(process.cpu_time)),
    "comm": ("COMMAND", lambda process: process.name),
    "args": ("COMMAND", lambda process: process.command),
    "cmd": ("CMD", lambda process: process.command),
}
_OTHER_NAMES = {
    "%cpu": "pcpu",
    "%mem": "pmem",
    "command": "args",
    "tt": "tty",
    "ni": "nice",
    "vsize": "vsz",
}
_FULL = (
    ("UID", "user"),
    ("PID", "pid"),
    ("PPID", "ppid"),
    ("C", "c"),
    ("STIME", "stime"),
    ("TTY", "tty"),
    ("TIME", "time"),
    ("CMD", "cmd"),
)
_BSD = (
    ("USER", "user"),
    ("PID", "pid"),
    ("%CPU", "pcpu"),
    ("%MEM", "pmem"),
    ("VSZ", "vsz"),
    ("RSS", "rss"),
    ("TTY", "tty"),
    ("STAT", "stat"),
    ("START", "stime"),
    ("TIME", "time"),
    ("COMMAND", "args"),
)


def wanted_columns(arguments: str) -> tuple[tuple[str, str], ...]:
    """(title, column) for the arguments of ps: -ef, aux, or a list of `-o` names."""
    words = arguments.split() or ["-ef"]
    if len(words) == 1 and words[0] in ("-ef", "-fe", "ef", "-f"):
        return _FULL
    if len(words) == 1 and words[0] in ("aux", "-aux", "u", "ux"):
        return _BSD
    names: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ("-e", "-A", "a", "x", "ax"):
            continue
        option, _, attached = word.partition("o")
        if option not in ("-", "-e", "", "-ax"):
            raise InvalidRequest(f"cannot run ps {arguments!r}: use -ef, aux or -o with columns")
        names += (attached or next(rest, "")).split(",")
    chosen = [_OTHER_NAMES.get(name.lower(), name.lower()) for name in names if name]
    unknown = [name for name in chosen if name not in COLUMNS]
    if unknown or not chosen:
        raise InvalidRequest(f"cannot run ps {arguments!r}: it has no column {unknown[:1]}")
    return tuple((COLUMNS[name][0], name) for name in chosen)


def table(processes: Iterable[Process], arguments: str) -> Processes:
    columns = wanted_columns(arguments)
    rows = tuple(tuple(COLUMNS[name][1](process) for _, name in columns) for process in processes)
    return Processes(tuple(title for title, _ in columns), rows)
