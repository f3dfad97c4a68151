"""processes.py, stats.py, changes.py and names.py: small readers of what a container is."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from engine.containers.changes import changes_of
from engine.containers.model import Change
from engine.containers.names import checked_name, made_up_name
from engine.containers.processes import read_process, read_threads
from engine.containers.ps import parse_arguments, table
from engine.containers.stats import memory_total, parse_interfaces, system_cpu_time
from engine.errors import InvalidRequest


def test_processes_are_shown_as_ps_would() -> None:
    own = read_process(os.getpid())
    assert own is not None
    shown = table([own], parse_arguments("-o pid,ppid,comm,args"))
    assert shown.titles == ("PID", "PPID", "COMMAND", "COMMAND")
    assert shown.processes[0][:2] == (str(os.getpid()), str(os.getppid()))
    full = table([own], parse_arguments("aux"))
    assert len(full.processes[0]) == 11
    assert 0 <= float(full.processes[0][full.titles.index("%MEM")]) < 100
    assert read_process(2**22 + 1) is None


@pytest.mark.parametrize(
    ("arguments", "titles"),
    [
        ("", "UID PID PPID C STIME TTY TIME CMD"),
        ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
        ("-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD"),
        ("-ely", "S UID PID PPID C PRI NI RSS SZ WCHAN TTY TIME CMD"),
        ("-eLf", "UID PID PPID LWP C NLWP STIME TTY TIME CMD"),
        ("-A", "PID TTY TIME CMD"),
        ("-T", "PID SPID TTY TIME CMD"),
        ("-ej", "PID PGID SID TTY TIME CMD"),
        ("-aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
        ("ax", "PID TTY STAT TIME COMMAND"),
        ("-x", "PID TTY STAT TIME COMMAND"),
        ("axo pid,cmd", "PID CMD"),
        ("-e -o pid,%cpu -o etime,nlwp=N", "PID %CPU ELAPSED N"),
        ("-eo user,group,pid --sort=-pcpu,pid", "USER GROUP PID"),
    ],
)
def test_arguments_of_ps_choose_the_columns(arguments: str, titles: str) -> None:
    """As procps-ng 4.0.2 prints them."""
    listing = parse_arguments(arguments)
    own = read_process(os.getpid())
    assert own is not None
    shown = table([own], listing)
    assert " ".join(shown.titles) == titles
    assert all(shown.processes[0])


def test_rows_are_threads_where_asked_and_sorted_as_asked() -> None:
    def column(arguments: str, *pids: int) -> list[int]:
        listing = parse_arguments(arguments)
        rows = table((one for pid in pids for one in read_threads(pid)), listing).processes
        return [int(row[-1]) for row in rows]

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert thread.native_id in column("-L -o pid,lwp", os.getpid())
    finally:
        stop.set()
        thread.join()
    pids = [1, os.getpid()]
    first = column("-eo pid --sort=pid", *pids)
    assert first == sorted(first)
    assert column("-eo pid k -pid", *pids) == first[::-1]


def test_a_column_that_is_cut_is_whole_where_it_comes_last_or_is_given_room() -> None:
    own = read_process(os.getpid())
    assert own is not None
    waiting = replace(own, pid=7, waits_in="hrtimer_nanosleep")
    for arguments, row in (
        ("-o pid,wchan", ("7", "hrtimer_nanosleep")),
        ("-o wchan,pid", ("hrtime", "7")),
        ("-o wchan:9,pid", ("hrtimer_n", "7")),
    ):
        assert table([waiting], parse_arguments(arguments)).processes == (row,)


@pytest.mark.parametrize(
    "arguments",
    ["-o nosuch,pid", "--help", "-ef; id", "-o", "-C sh", "-ef --forest", "-p 1", "f", "-o pid:x"],
)
def test_other_arguments_of_ps_are_refused(arguments: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot run ps"):
        parse_arguments(arguments)


@pytest.mark.parametrize("arguments", ["-o comm", "-o pid=X,comm"])
def test_the_pid_has_to_be_shown(arguments: str) -> None:
    with pytest.raises(InvalidRequest, match="Couldn't find PID field in ps output"):
        parse_arguments(arguments)


def test_counters_of_the_machine_are_read() -> None:
    lines = [
        "Inter-|   Receive                                                |  Transmit",
        " face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop",
        "    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0",
        "  eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0",
    ]
    (counters,) = parse_interfaces(lines).values()
    assert (counters.rx_bytes, counters.rx_dropped) == (100, 4)
    assert (counters.tx_bytes, counters.tx_dropped) == (500, 8)
    stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1"
    assert system_cpu_time(stat, 100) == 28 * 10_000_000
    assert memory_total("MemTotal:       16 kB\n") == 16384


@pytest.mark.kernel
def test_changes_are_read_from_the_writable_layer(tmp_path: Path) -> None:
    upper, lower = tmp_path / "upper", tmp_path / "lower"
    (lower / "etc").mkdir(parents=True)
    (lower / "etc/old").touch()
    (lower / "etc/gone").touch()
    (lower / "link").symlink_to("/etc")
    (upper / "etc").mkdir(parents=True)
    (upper / "etc/old").touch()
    (upper / "etc/new").touch()
    os.mknod(upper / "etc/gone", 0o020000, os.makedev(0, 0))
    (upper / "opaque").mkdir()
    os.setxattr(upper / "opaque", "trusted.overlay.opaque", b"y")
    (lower / "opaque").mkdir()
    (lower / "opaque/inside/folder").mkdir(parents=True)
    (lower / "opaque/hidden").touch()
    (upper / "opaque/inside").mkdir()
    (upper / "opaque/added").touch()
    (upper / "link").mkdir()
    (upper / "link/passwd").touch()
    top = tmp_path / "top"  # a layer of the image that took something away again
    (top / "etc").mkdir(parents=True)
    os.mknod(top / "etc/back", 0o020000, os.makedev(0, 0))
    (lower / "etc/back").touch()
    (upper / "etc/back").touch()
    assert changes_of(str(upper), [str(top), str(lower)]) == (
        Change("/etc", 0),
        Change("/etc/back", 1),
        Change("/etc/gone", 2),
        Change("/etc/new", 1),
        Change("/etc/old", 0),
        Change("/link", 0),
        Change("/link/passwd", 1),
        Change("/opaque", 0),
        Change("/opaque/added", 1),
        Change("/opaque/hidden", 2),
        Change("/opaque/inside", 0),
        Change("/opaque/inside/folder", 2),
    )


def test_names() -> None:
    assert checked_name("/web-1_a.b") == "web-1_a.b"
    for bad in ("", "a", "-a", "a b", "a/b", "ü1", "ab\n"):
        with pytest.raises(InvalidRequest, match="Invalid container name"):
            checked_name(bad)
    taken: set[str] = set()
    for _ in range(50):
        name = made_up_name(taken.__contains__)
        assert checked_name(name) == name
        assert name not in taken
        taken.add(name)
