"""What is measured: each function does one piece of work on one engine and gives its figures."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from compose.model.project import Project
from compose.model.resources import Network
from compose.model.service import Attachment, Condition, Dependency, Service
from compose.plan.make import make_plan
from compose.plan.observed import Observed, ObservedImage
from compose.plan.options import PlanOptions
from compose.process import COLLECT_AFTER
from engine.runtime.cgroup_tree import detect
from tests.benchmarks.engines import IMAGE, Engine

SLEEP = {"Image": IMAGE, "Cmd": ["sleep", "600"], "HostConfig": {"Init": True}}


def timed(work: object) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    assert callable(work)
    work()
    return (time.perf_counter() - start) * 1000


def create(engine: Engine, body: dict[str, object]) -> str:
    answer = engine.call("POST", "/containers/create", body)
    assert isinstance(answer, dict)
    return str(answer["Id"])


def remove(engine: Engine, container: str) -> None:
    engine.call("DELETE", f"/containers/{container}?force=1&v=1")


def create_start(engine: Engine) -> float:
    def work() -> None:
        nonlocal container
        container = create(engine, SLEEP)
        engine.call("POST", f"/containers/{container}/start")

    container = ""
    taken = timed(work)
    remove(engine, container)
    return taken


def life(engine: Engine) -> None:
    container = create(engine, {"Image": IMAGE, "Cmd": ["true"]})
    engine.call("POST", f"/containers/{container}/start")
    engine.call("POST", f"/containers/{container}/wait")
    engine.call("DELETE", f"/containers/{container}")


def ten_lives(engine: Engine) -> float:
    with ThreadPoolExecutor(10) as pool:
        return timed(lambda: list(pool.map(lambda _: life(engine), range(10))))


def cpu_of_a_life(engine: Engine, count: int = 10) -> float:
    """Milliseconds of CPU that the engine's own processes spend on one container's life, helpers
    that end with it included. What runs in the container's cgroup is not the engine's."""
    with own_group(engine) as used:
        life(engine)
        before = used()
        for _ in range(count):
            life(engine)
        return (used() - before) / count


@contextlib.contextmanager
def own_group(engine: Engine) -> Iterator[Callable[[], float]]:
    """All of the engine's processes in one cgroup, and those that they will start; how many
    milliseconds of CPU have been used in it."""
    trees = detect().trees
    tree = next((one for one in trees if "cpuacct" in one.controllers), None)
    tree = tree or next(one for one in trees if one.unified)
    group = Path(tree.point, f"benchmark-{engine.name}-{os.getpid()}")
    group.mkdir()
    try:
        for process in engine_processes(engine):
            move(process.name, group)
        yield lambda: milliseconds_used(group)
    finally:
        remove_group(group)


def milliseconds_used(group: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return int((group / "cpuacct.usage").read_text()) / 1e6
    found = re.search(r"^usage_usec (\d+)$", (group / "cpu.stat").read_text(), re.M)
    assert found is not None
    return int(found[1]) / 1e3


def move(pid: str, group: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(pid)


def remove_group(group: Path) -> None:
    limit = time.monotonic() + 10
    while True:
        for pid in (group / "cgroup.procs").read_text().split():
            move(pid, group.parent)
        try:
            return group.rmdir()
        except OSError as error:  # one was just ending, or just forked
            if error.errno != errno.EBUSY or time.monotonic() > limit:
                raise


def exec_true(engine: Engine, container: str) -> float:
    def work() -> None:
        made = engine.call("POST", f"/containers/{container}/exec",
                           {"Cmd": ["true"], "AttachStdout": True})  # fmt: skip
        assert isinstance(made, dict)
        engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": False})

    return timed(work)


def fifty_ports(engine: Engine) -> float:
    ports = {f"{port}/tcp": [{"HostPort": str(20000 + port)}] for port in range(1, 51)}
    body = {**SLEEP, "ExposedPorts": {key: {} for key in ports},
            "HostConfig": {"Init": True, "PortBindings": ports}}  # fmt: skip
    container = create(engine, body)
    taken = timed(lambda: engine.call("POST", f"/containers/{container}/start"))
    remove(engine, container)
    return taken


LOG_MEGABYTES = 32


class LogFigures(NamedTuple):
    """Megabytes of 100-byte lines: a second, and a second of the processor's time."""

    writing: float
    reading: float
    writing_cpu: float  # of the process that holds the container's output
    reading_cpu: float  # of the daemon


def logs(engine: Engine) -> LogFigures:
    count = LOG_MEGABYTES * 1_000_000 // 100
    # It stays, so that its shim can be asked what it used.
    script = f"yes {'x' * 99} | head -n {count}; echo >/done; exec sleep 600"
    body = {"Image": IMAGE, "Cmd": ["sh", "-c", script],
            "HostConfig": {"LogConfig": {"Type": "json-file"}}}  # fmt: skip
    container = create(engine, body)

    def write() -> None:
        engine.call("POST", f"/containers/{container}/start")
        # Not by asking the engine: what it does is counted.
        done = Path(f"/proc/{payload_of(engine, container)}/root/done")
        while not done.exists():
            time.sleep(0.005)

    daemon = processor_seconds(engine.pid)
    writing = timed(write)
    # Docker's daemon writes the log itself; the shim only hands it on.
    writer = engine.pid if engine.name == "dockerd" else shim_of(engine, container)
    used = processor_seconds(writer) - (daemon if writer == engine.pid else 0)
    daemon = processor_seconds(engine.pid)
    reading = timed(lambda: engine.call("GET", f"/containers/{container}/logs?stdout=1"))
    read = processor_seconds(engine.pid) - daemon
    remove(engine, container)
    per_second = LOG_MEGABYTES * 1000
    return LogFigures(
        per_second / writing, per_second / reading, LOG_MEGABYTES / used, LOG_MEGABYTES / read
    )


def payload_of(engine: Engine, container: str) -> int:
    about = engine.call("GET", f"/containers/{container}/json")
    assert isinstance(about, dict)
    return int(about["State"]["Pid"])


def shim_of(engine: Engine, container: str) -> int:
    status = Path(f"/proc/{payload_of(engine, container)}/stat").read_text()
    return int(status.rpartition(")")[2].split()[1])


def processor_seconds(pid: int) -> float:
    """utime and stime so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_per_container(engine: Engine, count: int = 10) -> float:
    """Megabytes (PSS) that `count` running containers add, beyond their own processes, each. What
    waits for containers to come is there before and after."""
    for container in running(engine, count):
        remove(engine, container)
    before = settled_memory(engine)
    containers = running(engine, count)
    after = settled_memory(engine)
    for container in containers:
        remove(engine, container)
    return (after - before) / count


def running(engine: Engine, count: int) -> list[str]:
    containers = [create(engine, SLEEP) for _ in range(count)]
    for container in containers:
        engine.call("POST", f"/containers/{container}/start")
    return containers


def settled_memory(engine: Engine) -> float:
    """Once nothing comes or goes any more."""
    known: set[str] = set()
    while known != (now := {process.name for process in engine_processes(engine)}):
        known = now
        time.sleep(1)
    return engine_memory(engine)


def engine_memory(engine: Engine) -> float:
    """PSS in megabytes of the engine's processes: all that name its folder, payloads left out."""
    total = 0.0
    for process in engine_processes(engine):
        try:
            found = re.search(r"^Pss:\s+(\d+) kB", (process / "smaps_rollup").read_text(), re.M)
        except OSError:
            continue  # it ended meanwhile
        total += int(found[1]) / 1000 if found else 0
    return total


def own_memory(pid: int) -> float:
    """Megabytes that no other process shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(map(int, re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.M))) / 1000


def engine_processes(engine: Engine) -> list[Path]:
    numbered = (process for process in Path("/proc").iterdir() if process.name.isdecimal())
    return [process for process in numbered if belongs(process, engine)]


def belongs(process: Path, engine: Engine) -> bool:
    """An ancestor or its own command line names the engine's folder; `sleep` is the payload."""
    try:
        words = (process / "cmdline").read_bytes()
        if b"sleep" in words or not words:
            return False
        network = (process / "ns/net").readlink()
        return network == Path(f"/proc/{engine.host.pid}/ns/net").readlink() and (
            str(process.name) != str(engine.host.pid)
        )
    except OSError:
        return False


PROJECT = """\
name: bench
services:
""" + "".join(
    f"""\
  s{index}:
    image: {IMAGE}
    command: sleep 600
    init: true
    stop_grace_period: 1s
"""
    + (f"    depends_on: [s{index - 1}]\n" if index % 3 else "")
    for index in range(10)
)

LARGE_PROJECT = (
    "name: large\nservices:\n"
    + "".join(
        f"""\
  s{index}:
    image: {IMAGE}
    command: ["sleep", "600"]
    environment:
      NAME: s{index}
      LEVEL: debug
    depends_on: [s{index // 2}]
    ports: ["{10000 + index}:80"]
    volumes: ["data:/data:ro"]
    healthcheck: {{test: [CMD, "true"], interval: 5s}}
    restart: unless-stopped
"""
        for index in range(1, 182)
    ).replace("    depends_on: [s0]\n", "")
    + "volumes:\n  data:\n"
)


def large_plan(count: int = 10_000) -> float:
    """Milliseconds of CPU that planning takes, nothing being there yet."""
    services = [
        Service(
            f"s{index}",
            image=IMAGE,
            networks={"default": Attachment()},
            depends_on={
                f"s{index // 2}": Dependency(f"s{index // 2}", Condition.STARTED)
            } if index > 1 else {},
        )
        for index in range(1, count + 1)
    ]  # fmt: skip
    project = Project(
        "large",
        Path("/large"),
        services={service.name: service for service in services},
        networks={"default": Network("default", "large_default")},
    )
    observed = Observed(images={IMAGE: ObservedImage("sha256:" + "1" * 64)})
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)  # as in the program
    start = time.process_time()
    plan = make_plan(project, observed, PlanOptions())
    taken = (time.process_time() - start) * 1000
    gc.set_threshold(*before)
    assert len(plan.changes) == count + 1
    return taken


COLD = {"PYCOMPOSE_WARM": "0"}  # without the process that has imported everything


def compose(
    engine: Engine, folder: Path, *arguments: str, more: Mapping[str, str] | None = None
) -> float:
    def work() -> None:
        engine.host.run(*engine.compose, "-f", str(folder / "compose.yaml"), *arguments,
                        env={**engine.environment, **(more or {})})  # fmt: skip

    return timed(work)


def version(engine: Engine) -> float:
    return timed(lambda: engine.host.run(*engine.compose, "--version", env=engine.environment))
