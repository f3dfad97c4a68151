"""processes.py, stats.py, changes.py and names.py: small readers of what a container is."""

import os
from pathlib import Path

import pytest

from engine.containers.changes import changes_of
from engine.containers.model import Change
from engine.containers.names import checked_name, made_up_name
from engine.containers.processes import read_process, table, wanted_columns
from engine.containers.stats import memory_total, parse_interfaces, system_cpu_time
from engine.errors import InvalidRequest


def test_processes_are_shown_as_ps_would() -> None:
    own = read_process(os.getpid())
    assert own is not None
    shown = table([own], "-o pid,ppid,comm,args")
    assert shown.titles == ("PID", "PPID", "COMMAND", "COMMAND")
    assert shown.processes[0][:2] == (str(os.getpid()), str(os.getppid()))
    full = table([own], "aux")
    assert len(full.processes[0]) == 11
    assert 0 < float(full.processes[0][full.titles.index("%MEM")]) < 100
    assert read_process(2**22 + 1) is None


@pytest.mark.parametrize("arguments", ["-o nosuch", "--help", "-ef; id", "-o", "-C sh"])
def test_other_arguments_of_ps_are_refused(arguments: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot run ps"):
        wanted_columns(arguments)


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
