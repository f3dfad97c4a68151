"""`python -m tests.benchmarks scale [PART]...`: what grows with the number of containers, networks
and names. Figures beside their goals; where a real dockerd is here, its list as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import statistics
import struct
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import measures
from tests.benchmarks.engines import IMAGE, Engine, docker, ours
from tests.host import enter_network

CONTAINERS = 500
NETWORKS = 200
NAMES = 5000
AT_ONCE = 200
COMPARED = 100  # containers in the list that is compared with dockerd's
SAMPLE = 25  # starts that stand for "the first" and "the last"
BODY = {"Image": IMAGE, "Cmd": ["sleep", "3600"], "HostConfig": {"Init": False}}


@dataclass(frozen=True)
class Figure:
    name: str
    value: float
    unit: str
    goal: float | None = None

    def __str__(self) -> str:
        line = f"{self.name:52}{self.value:10.2f} {self.unit:3}"
        if self.goal is None:
            return line
        return f"{line} goal {self.goal:g} {'reached' if self.value <= self.goal else 'MISSED'}"


def main(wanted: Sequence[str]) -> int:
    """`wanted`: names of PARTS, or none for all."""
    parts = [part for name, part in PARTS.items() if name in wanted or not wanted]
    with ours() as own:
        for part in parts:
            for figure in part(own):
                print(figure, flush=True)
        own_list = stopped_list(own)
    with docker() as peer:
        if peer is not None:
            ratio = own_list / stopped_list(peer)
            print(Figure(f"list of {COMPARED}: ours / dockerd's", ratio, "x", 1))
    return 0


# --- containers -------------------------------------------------------------------------------


def crowd(engine: Engine, count: int = CONTAINERS) -> Iterator[Figure]:
    """`count` containers live together: how the last starts beside the first, and what it costs
    that they are there."""
    for _ in range(5):  # imports, caches: the same for every number of containers
        measures.create_start(engine)
    before = measures.engine_memory(engine)
    lives = [Life(engine) for _ in range(count)]
    first, last = lives[:SAMPLE], lives[-SAMPLE:]
    for name, figure in (("create", "created"), ("start", "started"), ("daemon CPU", "cpu")):
        early = statistics.median(getattr(life, figure) for life in first)
        late = statistics.median(getattr(life, figure) for life in last)
        yield Figure(f"{name}: the first {SAMPLE}", early, "ms")
        yield Figure(f"{name}: the last {SAMPLE} of {count}", late, "ms")
        yield Figure(f"{name}: last / first", late / early, "x", 2)
    time.sleep(3)  # what follows the last start is over
    spent = cpu(daemon_of(engine))
    time.sleep(5)
    yield Figure("idle daemon", (cpu(daemon_of(engine)) - spent) / 5000 * 100, "%", 1)
    after = measures.engine_memory(engine)
    yield Figure("memory a container", (after - before) / count, "MB", 0.8)
    shims = [measures.shim_of(engine, life.container) for life in last]
    own = statistics.median(map(measures.own_memory, shims))
    yield Figure("of that, what its shim shares with none", own, "MB")
    yield Figure("the same some seconds after 10 MB of output", shim_after_output(engine), "MB")
    get = Connection(engine)
    yield Figure("list", get.median("/containers/json"), "ms", 20)
    label = json.dumps({"label": ["no=such"]})
    yield Figure("list by label", get.median(f"/containers/json?filters={label}"), "ms", 20)
    for life, where in ((lives[0], "first"), (lives[-1], "last")):
        path = f"/containers/{life.container}/json"
        yield Figure(f"inspect of the {where}", get.median(path), "ms", 20)
    yield Figure("network inspect", get.median("/networks/bridge"), "ms", 20)
    yield Figure("system df", get.median("/system/df", 5), "ms")
    yield Figure("info", get.median("/info"), "ms", 20)
    get.close()
    yield from restart(engine, count)
    taken = measures.timed(lambda: [measures.remove(engine, life.container) for life in lives])
    yield Figure("remove by force, each", taken / count, "ms")


def shim_after_output(engine: Engine) -> float:
    """Megabytes that the shim of a container shares with none, once it has logged ten."""
    script = f"yes {'x' * 99} | head -n 100000; echo >/done; exec sleep 600"
    container = measures.create(engine, {**BODY, "Cmd": ["sh", "-c", script]})
    engine.call("POST", f"/containers/{container}/start")
    done = Path(f"/proc/{measures.payload_of(engine, container)}/root/done")
    while not done.exists():
        time.sleep(0.01)
    time.sleep(3)  # it gives back what it needed for that
    used = measures.own_memory(measures.shim_of(engine, container))
    measures.remove(engine, container)
    return used


def restart(engine: Engine, count: int) -> Iterator[Figure]:
    """A daemon that was killed comes back to its containers."""
    engine.host.daemons[-1].kill()
    taken = measures.timed(engine.host.daemon)
    yield Figure(f"the daemon is back, to {count} containers", taken, "ms")
    yield Figure("of that, each container", taken / count, "ms")


def daemon_of(engine: Engine) -> int:
    return engine.host.daemons[-1].process.pid


class Life:
    """One container, made and started; how long that took, and the daemon's CPU."""

    def __init__(self, engine: Engine) -> None:
        spent = cpu(daemon_of(engine))
        self.created = measures.timed(lambda: self.make(engine))
        self.started = measures.timed(
            lambda: engine.call("POST", f"/containers/{self.container}/start")
        )
        self.cpu = cpu(daemon_of(engine)) - spent

    def make(self, engine: Engine) -> None:
        self.container = measures.create(engine, BODY)


def cpu(pid: int) -> float:
    """Milliseconds that the threads of a process have run."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the thread has ended
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e6


def stopped_list(engine: Engine) -> float:
    containers = [measures.create(engine, BODY) for _ in range(COMPARED)]
    get = Connection(engine)
    taken = get.median("/containers/json?all=1", 50)
    get.close()
    for container in containers:
        measures.remove(engine, container)
    return taken


class Connection:
    """GET after GET over one connection, raw: the client's own time is no part of the figure."""

    def __init__(self, engine: Engine) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(60)
        self.socket.connect(engine.socket)

    def close(self) -> None:
        self.socket.close()

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        path = path.replace('"', "%22").replace(" ", "%20")
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def receive(self) -> bytes:
        """The whole answer."""
        got = b""
        while b"\r\n\r\n" not in got:
            got += self._more()
        head, _, body = got.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 2"), got
        if b"transfer-encoding: chunked" in head.lower():
            while not body.endswith(b"\r\n0\r\n\r\n"):
                body += self._more()
            return body  # in its chunks: only the time is asked for
        if head.startswith(b"HTTP/1.1 204"):
            return b""
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        parts, missing = [body], length - len(body)
        while missing > 0:
            parts.append(self._more())
            missing -= len(parts[-1])
        return b"".join(parts)

    def _more(self) -> bytes:
        chunk = self.socket.recv(1 << 20)
        assert chunk, "the engine hung up"
        return chunk

    def get(self, path: str) -> float:
        def work() -> None:
            self.send("GET", path)
            self.receive()

        return measures.timed(work)

    def median(self, path: str, times: int = 20) -> float:
        self.get(path)
        return statistics.median(self.get(path) for _ in range(times))


# --- many at once -----------------------------------------------------------------------------


def at_once(engine: Engine) -> Iterator[Figure]:
    """How long others wait while creates, and then starts, come all together."""
    body = json.dumps(BODY).encode()
    answers = yield from crowded(engine, "create", [("/containers/create", body)] * AT_ONCE)
    made = [str(json.loads(answer)["Id"]) for answer in answers]
    started = [(f"/containers/{container}/start", b"") for container in made]
    yield from crowded(engine, "start", started)
    for container in made:
        measures.remove(engine, container)


def crowded(
    engine: Engine, name: str, requests: Sequence[tuple[str, bytes]]
) -> Generator[Figure, None, list[bytes]]:
    """The answers to POSTs that are sent together. Figures: the wait for a list meanwhile, and
    the time of an event from its stamp to its arrival."""
    posting = [Connection(engine) for _ in requests]
    listing, following = Connection(engine), Connection(engine)
    following.send("GET", "/events")
    selector = selectors.DefaultSelector()
    for connection in (*posting, listing, following):
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    begun = time.perf_counter()
    for connection, (path, body) in zip(posting, requests, strict=True):
        connection.send("POST", path, body)
    answers: list[bytes] = []
    waits: list[float] = []
    delays: list[float] = []
    asked = time.perf_counter()
    listing.send("GET", "/containers/json?all=1")
    while len(answers) < len(requests):
        for key, _ in selector.select(60):
            connection = key.data
            if connection is following:
                text = following.socket.recv(1 << 20)
                now = time.time()
                delays += [(now - stamp) * 1000 for stamp in stamps(text)]
            elif connection is listing:
                listing.receive()
                waits.append((time.perf_counter() - asked) * 1000)
                asked = time.perf_counter()
                listing.send("GET", "/containers/json?all=1")
            else:
                answers.append(connection.receive())
    taken = (time.perf_counter() - begun) * 1000
    for connection in (*posting, listing, following):
        connection.close()
    yield Figure(f"{name}, {AT_ONCE} at once, each", taken / AT_ONCE, "ms")
    yield Figure("meanwhile: longest wait for a list", max(waits), "ms", 100)
    yield Figure("meanwhile: lists answered, each", statistics.mean(waits), "ms", 20)
    yield Figure("meanwhile: latest event", max(delays), "ms", 100)
    return answers


def stamps(text: bytes) -> Iterator[float]:
    """Seconds since the epoch of the events in a piece of the stream."""
    for line in text.splitlines():
        if line.startswith(b"{"):
            with contextlib.suppress(ValueError):  # cut in two by the read
                yield json.loads(line)["timeNano"] / 1e9


# --- networks and names -----------------------------------------------------------------------


def networks(engine: Engine) -> Iterator[Figure]:
    made: list[str] = []

    def make(number: int) -> float:
        def work() -> None:
            answer = engine.call("POST", "/networks/create", {"Name": f"scale{number}"})
            assert isinstance(answer, dict)
            made.append(str(answer["Id"]))

        return measures.timed(work)

    taken = [make(number) for number in range(NETWORKS)]
    early, late = (statistics.median(part) for part in (taken[:SAMPLE], taken[-SAMPLE:]))
    yield Figure("network create: the first", early, "ms")
    yield Figure(f"network create: the last of {NETWORKS}", late, "ms")
    yield Figure("network create: last / first", late / early, "x", 2)
    get = Connection(engine)
    yield Figure("list of networks", get.median("/networks"), "ms", 20)
    get.close()
    body = {**BODY, "HostConfig": {"NetworkMode": "scale0"}}
    container = measures.create(engine, body)
    start = measures.timed(lambda: engine.call("POST", f"/containers/{container}/start"))
    yield Figure("start on one of them", start, "ms")
    measures.remove(engine, container)
    gone = [
        measures.timed(lambda id=network: engine.call("DELETE", f"/networks/{id}"))  # type: ignore[misc]
        for network in made
    ]
    yield Figure("network remove", statistics.median(gone), "ms")


def names(engine: Engine) -> Iterator[Figure]:
    """One network that knows thousands of names, asked from inside of a container."""
    engine.call("POST", "/networks/create", {"Name": "names"})
    containers = []
    each = 250
    for first in range(0, NAMES, each):
        aliases = [f"name{number}" for number in range(first, first + each)]
        body = {
            **BODY,
            "HostConfig": {"NetworkMode": "names"},
            "NetworkingConfig": {"EndpointsConfig": {"names": {"Aliases": aliases}}},
        }
        containers.append(measures.create(engine, body))
        engine.call("POST", f"/containers/{containers[-1]}/start")
    shown = engine.call("GET", f"/containers/{containers[0]}/json")
    assert isinstance(shown, dict)
    pid = int(shown["State"]["Pid"])
    # A thread of its own: it never comes back from that network namespace.
    with ThreadPoolExecutor(1, initializer=enter_network, initargs=(pid,)) as inside:
        taken = inside.submit(ask_all).result()
    yield Figure(f"DNS answer, one of {NAMES} names, median", statistics.median(taken), "ms", 1)
    yield Figure("DNS answer, the slowest of 20", statistics.quantiles(taken, n=20)[-1], "ms")
    for container in containers:
        measures.remove(engine, container)
    engine.call("DELETE", "/networks/names")


def ask_all() -> list[float]:
    taken = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(("127.0.0.11", 53))
        for number in range(0, NAMES, NAMES // 500):
            name = f"name{number}".encode()
            question = bytes([len(name)]) + name + b"\0" + struct.pack("!HH", 1, 1)
            query = os.urandom(2) + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 0) + question
            begun = time.perf_counter()
            client.send(query)
            answer = client.recv(4096)
            taken.append((time.perf_counter() - begun) * 1000)
            assert struct.unpack("!H", answer[6:8]) == (1,), answer
    return taken


PARTS: dict[str, Callable[[Engine], Iterator[Figure]]] = {
    "networks": networks,
    "crowd": crowd,
    "at-once": at_once,
    "names": names,
}
