"""`top`: processes as ps(1) of procps shows them, for the arguments that ps would get.

Which processes there are is no question here: they are the container's.
"""

import grp
import os
import pwd
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.containers.model import Processes
from engine.containers.processes import Process
from engine.errors import InvalidRequest

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MEMORY = os.sysconf("SC_PHYS_PAGES") * _PAGE
_DAY = 86400  # seconds

Value = str | int | float


class Chosen(NamedTuple):
    title: str
    name: str
    width: int = 0  # 0: the column's own


Columns = tuple[Chosen, ...]


def _whole(text: str, width: int) -> str:
    return text


def _cut(text: str, width: int) -> str:
    return text[:width]


def _cut_with_mark(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}+"


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    text: Callable[[Process], str]
    key: Callable[[Process], Value]  # what it is sorted by
    width: int = 0  # what is longer is cut, unless it comes last; 0: all of it is shown
    cut: Callable[[str, int], str] = _whole  # of numbers nothing is cut

    def shown(self, process: Process, width: int, *, is_last: bool) -> str:
        text, limit = self.text(process), width or self.width
        return self.cut(text, limit) if limit and not is_last else text


def _number(title: str, value: Callable[[Process], int]) -> Column:
    return Column(title, lambda process: str(value(process)), value)


def _text(title: str, text: Callable[[Process], str]) -> Column:
    return Column(title, text, text, cut=_cut)


def _clock(seconds: float) -> str:
    days, rest = divmod(int(seconds), _DAY)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{clock}" if days else clock


def _short_clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _elapsed(seconds: float) -> str:
    return _clock(seconds).removeprefix("00:")


def _start(process: Process) -> str:
    began, now = time.localtime(process.started), time.localtime()
    if began.tm_year != now.tm_year:
        return time.strftime("%Y", began)
    return time.strftime("%H:%M" if began.tm_yday == now.tm_yday else "%b%d", began)


def _start_clock(process: Process) -> str:
    form = "%H:%M:%S" if process.age < _DAY else "%b%d"
    return time.strftime(form, time.localtime(process.started))


def _share(process: Process) -> float:
    """Of one processor's time, in percent."""
    return 100 * process.cpu_time / max(process.age, 0.01)


def _percent(share: float) -> str:
    return f"{share:.1f}" if share < 100 else str(int(share))


def _name(title: str, text: Callable[[Process], str]) -> Column:
    """Of a user or a group."""
    return Column(title, text, text, width=8, cut=_cut_with_mark)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _stat(process: Process) -> str:
    """The state with what ps(1), "PROCESS STATE CODES", adds for BSD formats."""
    marks = (
        ("<", process.nice < 0),
        ("N", process.nice > 0),
        ("s", process.session == process.pid),
        ("L", process.locked > 0),
        ("l", process.threads > 1),
        ("+", process.foreground == process.group),
    )
    return process.state + "".join(mark for mark, holds in marks if holds)


def _waits_in(process: Process) -> str:
    return process.waits_in or "-"


# The names of `ps -o`.
COLUMNS: Mapping[str, Column] = {
    "user": _name("USER", lambda process: _user(process.effective_uid)),
    "ruser": _name("RUSER", lambda process: _user(process.uid)),
    "group": _name("GROUP", lambda process: _group(process.effective_gid)),
    "rgroup": _name("RGROUP", lambda process: _group(process.gid)),
    "uid": _number("UID", lambda process: process.effective_uid),
    "ruid": _number("RUID", lambda process: process.uid),
    "gid": _number("GID", lambda process: process.effective_gid),
    "rgid": _number("RGID", lambda process: process.gid),
    "pid": _number("PID", lambda process: process.pid),
    "ppid": _number("PPID", lambda process: process.parent),
    "pgid": _number("PGID", lambda process: process.group),
    "sid": _number("SID", lambda process: process.session),
    "tpgid": _number("TPGID", lambda process: process.foreground),
    "lwp": _number("LWP", lambda process: process.thread),
    "nlwp": _number("NLWP", lambda process: process.threads),
    "psr": _number("PSR", lambda process: process.processor),
    "pri": _number("PRI", lambda process: 39 - process.priority),
    "opri": _number("PRI", lambda process: 60 + process.priority),
    "nice": _number("NI", lambda process: process.nice),
    # sched(7): what the process did with fork, exec and rights; the low bits are the kernel's.
    "flags": Column("F", lambda process: f"{process.flags >> 6 & 7:o}", lambda p: p.flags),
    "c": Column("C", lambda process: str(min(int(_share(process)), 99)), _share),
    "pcpu": Column("%CPU", lambda process: _percent(_share(process)), _share),
    "pmem": Column(
        "%MEM", lambda p: _percent(1000 * p.resident // _MEMORY / 10), lambda p: p.resident
    ),
    "vsz": _number("VSZ", lambda process: process.virtual // 1024),
    "rss": _number("RSS", lambda process: process.resident // 1024),
    "sz": _number("SZ", lambda process: process.virtual // _PAGE),
    "addr": _text("ADDR", lambda process: "-"),
    "wchan": Column("WCHAN", _waits_in, _waits_in, width=6, cut=_cut),
    "tty": _text("TT", lambda process: process.terminal),
    "s": _text("S", lambda process: process.state),
    "stat": _text("STAT", _stat),
    "stime": Column("STIME", _start, lambda process: process.started),
    "start": Column("STARTED", _start_clock, lambda process: process.started),
    "etime": Column("ELAPSED", lambda p: _elapsed(p.age), lambda process: process.age),
    "etimes": _number("ELAPSED", lambda process: int(process.age)),
    "time": Column("TIME", lambda p: _clock(p.cpu_time), lambda process: process.cpu_time),
    "bsdtime": Column("TIME", lambda p: _short_clock(p.cpu_time), lambda p: p.cpu_time),
    "times": _number("TIME", lambda process: int(process.cpu_time)),
    "comm": _text("COMMAND", lambda process: process.name),
    "args": _text("COMMAND", lambda process: process.command),
}
# Another name -> the column, and the title that it has by this name.
_OTHER_NAMES: Mapping[str, tuple[str, str]] = {
    "%cpu": ("pcpu", "%CPU"),
    "%mem": ("pmem", "%MEM"),
    "cmd": ("args", "CMD"),
    "command": ("args", "COMMAND"),
    "ucmd": ("comm", "CMD"),
    "ucomm": ("comm", "COMMAND"),
    "tt": ("tty", "TT"),
    "tname": ("tty", "TTY"),
    "ni": ("nice", "NI"),
    "f": ("flags", "F"),
    "flag": ("flags", "F"),
    "state": ("s", "S"),
    "vsize": ("vsz", "VSZ"),
    "rssize": ("rss", "RSS"),
    "rsz": ("rss", "RSZ"),
    "pgrp": ("pgid", "PGRP"),
    "sess": ("sid", "SESS"),
    "session": ("sid", "SESS"),
    "spid": ("lwp", "SPID"),
    "tid": ("lwp", "TID"),
    "thcount": ("nlwp", "THCNT"),
    "euser": ("user", "EUSER"),
    "uname": ("user", "USER"),
    "egroup": ("group", "EGROUP"),
    "euid": ("uid", "EUID"),
    "egid": ("gid", "EGID"),
    "cputime": ("time", "TIME"),
    "start_time": ("stime", "START"),
    "bsdstart": ("stime", "START"),
}


def _columns(*given: str) -> Columns:
    """Of `name`, or `name=TITLE` where it isn't the usual one."""
    pairs = [text.partition("=") for text in given]
    return tuple(Chosen(title or COLUMNS[name].title, name) for name, _, title in pairs)


_BRIEF = _columns("pid", "tty=TTY", "time", "comm=CMD")
_FULL = _columns("user=UID", "pid", "ppid", "c", "stime", "tty=TTY", "time", "args=CMD")
_EXTRA = _columns(
    *("user=UID", "pid", "ppid", "c", "sz", "rss", "psr", "stime", "tty=TTY", "time", "args=CMD")
)
_JOBS = _columns("pid", "pgid", "sid", "tty=TTY", "time", "comm=CMD")
_LONG = _columns(
    *("flags", "s", "uid", "pid", "ppid", "c", "opri", "nice", "addr", "sz", "wchan"),
    *("tty=TTY", "time", "comm=CMD"),
)
_LONG_Y = _columns(
    *("s", "uid", "pid", "ppid", "c", "opri", "nice", "rss", "sz", "wchan"),
    *("tty=TTY", "time", "comm=CMD"),
)
_BSD_BRIEF = _columns("pid", "tty=TTY", "stat", "bsdtime", "args")
_BSD_USER = _columns(
    *("user", "pid", "pcpu", "pmem", "vsz", "rss", "tty=TTY", "stat", "stime=START"),
    *("bsdtime", "args"),
)
_UNIX_FORMATS = {"f": _FULL, "F": _EXTRA, "j": _JOBS, "l": _LONG}


@dataclass(frozen=True, slots=True)
class Listing:
    columns: Columns
    threads: bool = False  # a row each
    order: tuple[tuple[str, bool], ...] = ()  # columns; whether the greatest comes first


@dataclass(slots=True)
class _Options:
    arguments: str
    rest: Iterator[str]
    named: list[Chosen] = field(default_factory=list)  # by -o
    format: Columns = ()
    threads: str = ""  # "L" or "T": how the thread is called
    order: tuple[tuple[str, bool], ...] = ()
    long_y: bool = False
    is_bsd: bool = False

    def value(self, attached: str) -> str:
        """Of an option: in its own word, or in the next."""
        return attached or next(self.rest, "")

    def refusal(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"cannot run ps {self.arguments!r}: {why}")


def parse_arguments(arguments: str) -> Listing:
    """Raises InvalidRequest for what isn't understood: it would choose among processes, or draw
    them as a tree, or ps doesn't know it either."""
    words = iter(arguments.split() or ["-ef"])
    options = _Options(arguments, words)
    for word in words:
        if word.startswith("--"):
            _read_long(options, word[2:])
        elif word in ("-aux", "-auxw", "-auxww"):  # ps(1): meant as without the dash
            _read_letters(options, word[1:], _read_bsd)
        elif word.startswith("-") and len(word) > 1:
            _read_letters(options, word[1:], _read_unix)
        else:
            _read_letters(options, word, _read_bsd)
    columns = tuple(options.named) or options.format or _plain(options)
    if options.threads:
        columns = _with_threads(columns, options.threads)
    if "PID" not in [column.title for column in columns]:
        raise InvalidRequest("Couldn't find PID field in ps output")
    return Listing(columns, bool(options.threads), options.order)


def _plain(options: _Options) -> Columns:
    return _BSD_BRIEF if options.is_bsd else _BRIEF


def _read_letters(options: _Options, word: str, read: Callable[[_Options, str, str], bool]) -> None:
    for place, letter in enumerate(word):
        if read(options, letter, word[place + 1 :]):
            return


def _read_unix(options: _Options, letter: str, attached: str) -> bool:
    """Whether what is attached belongs to this option."""
    match letter:
        case "e" | "A" | "a" | "d" | "w":
            return False  # which ones they are, and how wide, is no question
        case "x":
            options.is_bsd = True
        case "f" | "F" | "j" | "l":
            options.format = _UNIX_FORMATS[letter]
        case "y":
            options.long_y = True
        case "L" | "T":
            options.threads = letter
        case "o":
            _read_names(options, options.value(attached))
            return True
        case _:
            raise options.refusal(f"it has no option -{letter}")
    if options.long_y and options.format is _LONG:
        options.format = _LONG_Y
    return False


def _read_bsd(options: _Options, letter: str, attached: str) -> bool:
    options.is_bsd = True
    match letter:
        case "a" | "x" | "w" | "g":
            return False
        case "u":
            options.format = _BSD_USER
        case "o":
            _read_names(options, options.value(attached))
            return True
        case "k":
            _read_order(options, options.value(attached))
            return True
        case _:
            raise options.refusal(f"it has no option {letter}")
    return False


def _read_long(options: _Options, word: str) -> None:
    name, _, value = word.partition("=")
    if name == "sort":
        _read_order(options, options.value(value))
    elif name == "format":
        _read_names(options, options.value(value))
    else:
        raise options.refusal(f"it has no option --{name}")


def _read_names(options: _Options, text: str) -> None:
    head, equals, title = text.partition("=")
    *names, last = head.split(",")
    found = [_named(options, name) for name in names]
    known = _named(options, last)
    # ps(1): with = the rest of the word is the title, whatever it holds.
    options.named += [*found, known._replace(title=title) if equals else known]


def _named(options: _Options, text: str) -> Chosen:
    name, colon, width = text.strip().lower().partition(":")
    if not colon:
        width = "0"
    elif not (width.isdecimal() and int(width)):
        raise options.refusal(f"{text!r} has no width after its colon")
    if name in COLUMNS:
        return Chosen(COLUMNS[name].title, name, int(width))
    if name in _OTHER_NAMES:
        column, title = _OTHER_NAMES[name]
        return Chosen(title, column, int(width))
    raise options.refusal(f"it has no column {name!r}")


def _read_order(options: _Options, text: str) -> None:
    options.order = tuple(
        (_named(options, name.lstrip("+-")).name, name.startswith("-")) for name in text.split(",")
    )


def _with_threads(columns: Columns, letter: str) -> Columns:
    """-L and -T name the thread beside the process, unless -o says what is shown."""
    names = [column.name for column in columns]
    if "lwp" in names or "pid" not in names:
        return columns
    after, more = "pid", _columns("lwp=SPID" if letter == "T" else "lwp")
    if letter == "L" and columns in (_FULL, _EXTRA):
        columns = tuple(column for column in columns if column.name != "c")
        names = [column.name for column in columns]
        after, more = "ppid", _columns("lwp", "c", "nlwp")
    place = names.index(after) + 1
    return (*columns[:place], *more, *columns[place:])


def table(processes: Iterable[Process], listing: Listing) -> Processes:
    shown: Sequence[Process] = list(processes)
    for name, is_descending in reversed(listing.order):
        shown = sorted(shown, key=COLUMNS[name].key, reverse=is_descending)
    last = len(listing.columns) - 1
    rows = tuple(
        tuple(
            COLUMNS[chosen.name].shown(process, chosen.width, is_last=place == last)
            for place, chosen in enumerate(listing.columns)
        )
        for process in shown
    )
    return Processes(tuple(chosen.title for chosen in listing.columns), rows)
