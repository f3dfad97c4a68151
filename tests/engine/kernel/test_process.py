from __future__ import annotations

import os
import select
import signal

import pytest

from engine.kernel import privileges, process, procfs

pytestmark = pytest.mark.kernel


def forked(code: int) -> int:
    """Its pidfd."""
    pid, pidfd = process.clone3()
    if pid == 0:
        os._exit(code)
    return pidfd


def test_exit_code_is_read_once_by_pidfd() -> None:
    pidfd = forked(7)
    poll_until_readable(pidfd)
    assert process.reap(pidfd) == (7, None)
    with pytest.raises(ChildProcessError):
        process.reap(pidfd)
    os.close(pidfd)


def test_killed_child_has_128_and_its_signal() -> None:
    reading, writing = os.pipe()
    pid, pidfd = process.clone3()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    assert process.reap(pidfd) is None
    process.send_signal(pidfd, signal.SIGTERM)
    poll_until_readable(pidfd)
    assert process.reap(pidfd) == (143, signal.SIGTERM)
    for descriptor in (reading, writing, pidfd):
        os.close(descriptor)


def poll_until_readable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000)


def test_start_time_names_a_process() -> None:
    assert procfs.start_time(os.getpid()) == procfs.start_time(os.getpid())
    pid, pidfd = process.clone3()
    if pid == 0:
        os._exit(0)
    poll_until_readable(pidfd)
    process.reap(pidfd)
    os.close(pidfd)
    assert procfs.start_time(pid) is None


def test_capabilities_are_read_as_proc_has_them() -> None:
    with open("/proc/self/status") as stream:
        lines = dict(line.rstrip("\n").split(":\t", 1) for line in stream if ":\t" in line)
    effective, permitted, inheritable = privileges.get_capabilities()
    assert effective == int(lines["CapEff"], 16)
    assert permitted == int(lines["CapPrm"], 16)
    assert inheritable == int(lines["CapInh"], 16)
