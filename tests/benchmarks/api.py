"""What clients of the API wait for: the list of a hundred containers, and streams of bytes."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import time
from collections.abc import Iterator

from tests.benchmarks.engines import IMAGE, Engine
from tests.benchmarks.measures import SLEEP, create, remove
from tests.host import UnixConnection

CONTAINERS = 100
QUESTIONS = 50
MEGABYTES = 300
BLOCK = 1 << 20


def rounds(engines: list[Engine], figures: dict[str, dict[str, list[float]]], count: int) -> None:
    for engine in engines:
        with hundred(engine):
            for _ in range(count):
                figures["list of 100 containers"][engine.name].append(list_all(engine))
    for engine in engines:
        container = create(engine, SLEEP)
        engine.call("POST", f"/containers/{container}/start")
        for _ in range(count):
            figures["hijacked, out (MB/s)"][engine.name].append(stream_out(engine, container))
            figures["hijacked, in (MB/s)"][engine.name].append(stream_in(engine, container))
        remove(engine, container)


@contextlib.contextmanager
def hundred(engine: Engine) -> Iterator[None]:
    body = {"Image": IMAGE, "Cmd": ["true"], "Labels": {"com.example": "x"}}
    made = [create(engine, body) for _ in range(CONTAINERS)]
    yield
    for container in made:
        remove(engine, container)


def list_all(engine: Engine) -> float:
    """Milliseconds of one question, on a connection that stays."""
    connection = UnixConnection(engine.socket, 60)
    taken = []
    for _ in range(QUESTIONS):
        begin = time.perf_counter()
        connection.request("GET", "/containers/json?all=1")
        content = connection.getresponse().read()
        taken.append((time.perf_counter() - begin) * 1000)
        assert len(json.loads(content)) == CONTAINERS
    connection.close()
    return statistics.median(taken)


def stream_out(engine: Engine, container: str) -> float:
    """MB/s of what a command writes, as it comes out of a hijacked connection."""
    command = ["dd", "if=/dev/zero", f"bs={BLOCK}", f"count={MEGABYTES}"]
    with hijacked(engine, container, command, stdin=False) as connection:
        begin, total = time.perf_counter(), 0
        buffer = bytearray(BLOCK)
        while size := connection.recv_into(buffer):
            total += size
    assert total >= MEGABYTES * BLOCK
    return MEGABYTES / (time.perf_counter() - begin)


def stream_in(engine: Engine, container: str) -> float:
    """MB/s of what is sent to a command's input, until it has answered that it had all."""
    with hijacked(engine, container, ["wc", "-c"], stdin=True) as connection:
        begin, block, answer = time.perf_counter(), bytes(BLOCK), b""
        for _ in range(MEGABYTES):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        while received := connection.recv(4096):
            answer += received
    assert str(MEGABYTES * BLOCK).encode() in answer
    return MEGABYTES / (time.perf_counter() - begin)


@contextlib.contextmanager
def hijacked(
    engine: Engine, container: str, command: list[str], *, stdin: bool
) -> Iterator[socket.socket]:
    wish = {"Cmd": command, "AttachStdin": stdin, "AttachStdout": True}
    made = engine.call("POST", f"/containers/{container}/exec", wish)
    assert isinstance(made, dict)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(60)
        connection.connect(engine.socket)
        connection.sendall(
            f"POST /exec/{made['Id']}/start HTTP/1.1\r\nHost: x\r\n"
            "Content-Type: application/json\r\nContent-Length: 2\r\n"
            "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n{}".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(1)
        assert b" 101 " in head, head
        yield connection
