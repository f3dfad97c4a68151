"""Many clients, slow clients, clients that vanish: everybody else is answered, nothing is left."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.engine.api.conftest import TCP_PORT, Make
from tests.engine.api.dialogue import Dialogue
from tests.host import Daemon

pytestmark = pytest.mark.kernel
Talk = Callable[..., Dialogue]


def open_files(engine: Daemon) -> int:
    return len(os.listdir(f"/proc/{engine.process.pid}/fd"))


def settles(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 100  # an emulated machine is slow
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def connections(engine: Daemon, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as opened:
        found = []
        for _ in range(count):
            one = opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            one.connect(engine.socket)  # waits where the queue is full; with a limit it would fail
            one.settimeout(20)
            found.append(one)
        yield found


def test_a_thousand_idle_connections_hold_up_nobody(engine: Daemon) -> None:
    with connections(engine, 1000) as idle:
        assert settles(lambda: open_files(engine) > 1000)
        assert engine.call("GET", "/_ping") == (200, "OK")
        idle[-1].sendall(b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle[-1].recv(65536).startswith(b"HTTP/1.1 200 OK")
    assert settles(lambda: open_files(engine) < 100)


@pytest.mark.parametrize("port", [0, TCP_PORT], ids=["unix", "tcp"])
def test_who_comes_after_a_crowd_is_not_answered_after_it(
    engine: Daemon, talk: Talk, port: int
) -> None:
    crowd = []
    for _ in range(100):
        crowd.append(talk(port=port))
        crowd[-1].request("POST", "/containers/create", {"Image": "rootfs:/", "Cmd": ["true"]})
    last = talk(port=port)
    last.request("GET", "/_ping")
    assert last.head().status == 200
    answered, _, _ = select.select([one.socket for one in crowd], [], [], 0)
    assert len(answered) < 50
    for one in crowd:
        head, body = one.answer()
        assert head.status == 201
        assert engine.call("DELETE", f"/containers/{json.loads(body)['Id']}")[0] == 204


def test_two_hundred_creates_at_once_make_two_hundred_containers(engine: Daemon) -> None:
    def create(number: int) -> int:
        body = {"Image": "rootfs:/", "Cmd": ["true"], "HostConfig": {"NetworkMode": "none"}}
        return engine.call("POST", f"/containers/create?name=crowd{number // 2}", body)[0]

    with ThreadPoolExecutor(64) as clients:
        statuses = [*clients.map(create, range(400))]
    # Two want each name: one gets it.
    assert (statuses.count(201), statuses.count(409)) == (200, 200)
    filters = json.dumps({"name": ["^/crowd"]}).replace('"', "%22").replace(" ", "")
    _, listed = engine.call("GET", f"/containers/json?all=1&filters={filters}")
    assert isinstance(listed, list)
    assert len({one["Id"] for one in listed}) == 200

    def remove(container: dict[str, object]) -> int:
        return engine.call("DELETE", f"/containers/{container['Id']}")[0]

    with ThreadPoolExecutor(16) as clients:
        assert {*clients.map(remove, listed)} == {204}


def test_a_client_that_does_not_read_costs_only_what_is_on_its_way(
    engine: Daemon, make: Make, talk: Talk
) -> None:
    name = make("sh", "-c", "yes | head -c 100000000; sleep 100", Tty=True)
    assert engine.call("POST", f"/containers/{name}/start")[0] == 204
    slow = talk()
    slow.request("GET", f"/containers/{name}/logs?stdout=1&follow=1")
    assert slow.head().status == 200
    assert engine.call("GET", "/_ping") == (200, "OK")
    assert settles(lambda: reads_logs(engine))
    memory = resident(engine)
    assert memory < 200 << 20, memory
    slow.close()  # and is gone in the middle of the stream
    assert settles(lambda: not reads_logs(engine))


def reads_logs(engine: Daemon) -> bool:
    for entry in Path(f"/proc/{engine.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if os.readlink(entry).endswith("-json.log"):
                return True
    return False


def resident(engine: Daemon) -> int:
    with open(f"/proc/{engine.process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_upload_without_an_end_is_not_gathered(engine: Daemon, talk: Talk) -> None:
    """A document has a limit; what comes after it is not read."""
    client = talk()
    client.send(
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    block = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    with contextlib.suppress(OSError):
        for _ in range(20):
            client.send(block)
    assert client.head().status == 400
    assert engine.call("GET", "/_ping") == (200, "OK")
