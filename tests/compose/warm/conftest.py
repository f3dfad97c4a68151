"""An engine with a project that runs, and a look at the warm processes that belong to it."""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from compose.warm.door import peer_of
from compose.warm.place import server_folder, server_name
from compose.warm.start import servers
from tests.host import Host, host
from tests.scenarios.project import Project, project

STACK = """\
services:
  web: {image: "rootfs:/", command: sh -c 'echo hello; exec sleep 1000', init: true}
"""


class Warm:
    """The one process that serves the project's commands."""

    def __init__(self, stack: Project) -> None:
        self.stack = stack

    @property
    def pids(self) -> list[int]:
        """Of all kinds of callers, ready or not."""
        return servers(self.stack.daemon.socket)

    @property
    def door(self) -> Path:
        environment = self.stack.host.environment(self.stack.environment)
        return Path(server_folder({}), server_name(self.stack.daemon.socket, environment))

    def start(self) -> int:
        """By a command that runs cold, if there is none. Its pid, once it serves."""
        if peer_of(self.door) is None:
            self.stack("ps")
            until(lambda: peer_of(self.door) is not None, "a server")
        peer = peer_of(self.door)
        assert peer is not None
        return peer[0]

    def children(self, name: str = "pycompose") -> list[int]:
        """What it runs now, by default."""
        pid = self.start()
        found = []
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                if Path(f"/proc/{child}/comm").read_text() == f"{name}\n":
                    found.append(int(child))
        return found

    def spare(self) -> int:
        """The child that waits for a call."""
        until(lambda: len(self.children("pycompose-warm")) == 1, "a child that waits")
        return self.children("pycompose-warm")[0]

    def child(self) -> int:
        """The command that was started last, once it runs."""
        until(lambda: len(self.children()) == 1, "a command")
        return self.children()[0]


def until(condition: Callable[[], bool], what: str) -> None:
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit, f"{what} did not come"
        time.sleep(0.01)


def await_end(pid: int, limit: float = 20) -> None:
    """Of a process that isn't ours; somebody else may have to see to its remains."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], limit)[0], f"{pid} goes on"
    finally:
        os.close(process)


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    with host() as opened:
        yield opened


@pytest.fixture(scope="module")
def running(place: Host) -> Iterator[Project]:
    made = project(place, STACK)
    made("up", "-d")
    yield made
    made("down", "-t", "0")


@pytest.fixture
def warm(running: Project) -> Warm:
    found = Warm(running)
    found.start()
    return found
