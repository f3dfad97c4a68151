"""A daemon that works for months: what a life or a vanished client took is given back."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import pytest

from engine.runtime.spares import MOST
from tests.engine.api.dialogue import Dialogue
from tests.host import Daemon, Host

pytestmark = pytest.mark.kernel

LIVES = 40
CLIENTS = 40


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def memory(pid: int) -> int:
    """Kilobytes that are its own: RssAnon."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found.group(1))


def live(daemon: Daemon, number: int) -> None:
    name = f"life{number}"
    body = {"Image": "rootfs:/", "Cmd": ["sleep", "1000"], "Volumes": {"/own": {}}}
    assert daemon.call("POST", f"/containers/create?name={name}", body)[0] == 201
    assert daemon.call("POST", f"/containers/{name}/start")[0] == 204
    wanted = {"Cmd": ["true"], "AttachStdout": True}
    _, made = daemon.call("POST", f"/containers/{name}/exec", wanted)
    assert isinstance(made, dict)
    assert daemon.call("POST", f"/exec/{made['Id']}/start", {})[0] == 200
    assert daemon.call("DELETE", f"/containers/{name}?force=1&v=1")[0] == 204


def kept(daemon: Daemon) -> int:
    """Containers that run, and what is kept warm for the next ones."""
    return len(list((daemon.exec_root / "containers").iterdir()))


def networks(pid: int) -> int:
    """Descriptors of network namespaces."""
    count = 0
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            count += os.readlink(entry).startswith("net:")
    return count


def settle(daemon: Daemon, limit: int) -> int:
    """Descriptors, but for one to each that is kept, and to each that waits for its container (all
    but `stays`) one to its first process and the five of its network. Those of clients that left
    go as soon as the loop gets to them."""
    pid = daemon.process.pid
    end = time.monotonic() + 60  # an emulated machine is slow
    while time.monotonic() < end:
        waiting = kept(daemon) - 1
        count = descriptors(pid) - 7 * waiting - 1
        # What waits has a folder before the daemon has its network.
        if count <= limit and networks(pid) == waiting:
            break
        time.sleep(0.05)
    return count


def test_lives_and_vanished_clients_leave_nothing_in_the_daemon(host: Host) -> None:
    daemon = host.daemon()
    pid = daemon.process.pid
    body = {"Image": "rootfs:/", "Cmd": ["sleep", "1000"], "OpenStdin": True}
    assert daemon.call("POST", "/containers/create?name=stays", body)[0] == 201
    assert daemon.call("POST", "/containers/stays/start")[0] == 204
    for number in range(LIVES):  # what is made once only: threads, caches, the interpreter's own
        live(daemon, number)
    visit(daemon, CLIENTS)
    open_files, before = settle(daemon, 30), memory(pid)
    running = threads(pid)
    for number in range(LIVES):
        live(daemon, number)
    visit(daemon, CLIENTS)
    assert settle(daemon, open_files) <= open_files
    assert threads(pid) <= running + 8  # a pool may not be full yet
    assert memory(pid) - before < 2000
    assert settled_tasks(daemon, 14) < 15
    assert kept(daemon) <= 1 + MOST


def visit(daemon: Daemon, number: int) -> None:
    """Clients that ask for a stream, get its head, and vanish."""
    for method, path in (
        ("GET", "/events"),
        ("GET", "/containers/stays/logs?stdout=1&follow=1"),
        ("POST", "/containers/stays/wait"),
        ("POST", "/containers/stays/attach?stream=1&stdout=1&stdin=1"),
        ("GET", "/containers/stays/stats"),
    ):
        for _ in range(number // 4):
            client = Dialogue(daemon.socket)
            client.request(method, path)
            assert client.head().status == 200
            client.close()


def settled_tasks(daemon: Daemon, limit: int) -> int:
    """A stream of samples learns with its next one that nobody listens."""
    end = time.monotonic() + 60  # an emulated machine is slow
    while (count := told_tasks(daemon).count(" waits at")) > limit and time.monotonic() < end:
        time.sleep(0.2)
    return count


def told_tasks(daemon: Daemon) -> str:
    """SIGUSR1 makes the daemon log what it is at."""
    before = len(daemon.log)
    os.kill(daemon.process.pid, 10)
    daemon.call("GET", "/_ping")
    return daemon.log[before:]
