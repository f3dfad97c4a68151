"""kill -9 of the daemon and of its helpers: what is listed works, what isn't never was."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.engine.moments import killed_at
from tests.engine.runtime.laboratory import shim_of as shim_process
from tests.host import Daemon, Host

pytestmark = pytest.mark.kernel

GONE = (OSError, http.client.HTTPException)  # what a client sees of a daemon that is killed
PORT = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
BUSY = {"NetworkMode": "front", "PortBindings": PORT}
Step = Callable[[Daemon], object]


def ask(daemon: Daemon, method: str, path: str, body: object = None) -> object:
    status, answer = daemon.call(method, path, body)
    assert status in (200, 201, 204, 304), (method, path, status, answer)
    return answer


def rows(daemon: Daemon, path: str) -> list[dict[str, object]]:
    answer = ask(daemon, "GET", path)
    assert isinstance(answer, list)
    return answer


def create(daemon: Daemon, name: str, *command: str, **host: object) -> None:
    body = {
        "Image": "rootfs:/",
        "Cmd": list(command or ("sleep", "1000")),
        "Volumes": {"/own": {}},
        "HostConfig": host,
    }
    ask(daemon, "POST", f"/containers/create?name={name}", body)


def run(daemon: Daemon, name: str, *command: str, **host: object) -> None:
    create(daemon, name, *command, **host)
    ask(daemon, "POST", f"/containers/{name}/start")


def state(daemon: Daemon, name: str) -> dict[str, object]:
    answer = ask(daemon, "GET", f"/containers/{name}/json")
    assert isinstance(answer, dict)
    found = answer["State"]
    assert isinstance(found, dict)
    return found


def has_status(daemon: Daemon, name: str, status: str) -> bool:
    return state(daemon, name)["Status"] == status


def pid(daemon: Daemon, name: str) -> int:
    return int(str(state(daemon, name)["Pid"]))


def execute(daemon: Daemon, name: str, *command: str) -> str:
    body = {"Cmd": list(command), "AttachStdout": True}
    answer = ask(daemon, "POST", f"/containers/{name}/exec", body)
    assert isinstance(answer, dict)
    return str(ask(daemon, "POST", f"/exec/{answer['Id']}/start", {}))


def until(condition: Callable[[], object], what: str) -> None:
    limit = time.monotonic() + 100  # an emulated machine is slow
    while not condition():
        assert time.monotonic() < limit, f"in vain: {what}"
        time.sleep(0.02)


def await_end(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process)
        assert select.select([descriptor], [], [], 20)[0]
        os.close(descriptor)


# --- the daemon, in the middle of each of its works ------------------------------------------


def network(name: str) -> Step:
    return lambda daemon: ask(daemon, "POST", "/networks/create", {"Name": name})


def steps(*all_: Step) -> Step:
    return lambda daemon: [step(daemon) for step in all_]


nothing = steps()
WORKS: dict[str, tuple[Step, Step]] = {
    "create": (nothing, lambda daemon: create(daemon, "xx", **BUSY)),
    "start": (
        lambda daemon: create(daemon, "xx", **BUSY),
        lambda daemon: ask(daemon, "POST", "/containers/xx/start"),
    ),
    "stop": (
        lambda daemon: run(daemon, "xx", **BUSY),
        lambda daemon: ask(daemon, "POST", "/containers/xx/stop?t=0"),
    ),
    "remove": (
        lambda daemon: run(daemon, "xx", **BUSY),
        lambda daemon: ask(daemon, "DELETE", "/containers/xx?force=1&v=1"),
    ),
    "exec": (
        lambda daemon: run(daemon, "xx", **BUSY),
        lambda daemon: execute(daemon, "xx", "sleep", "0.01"),
    ),
    "connect": (
        steps(network("back"), lambda daemon: run(daemon, "xx", **BUSY)),
        lambda daemon: ask(daemon, "POST", "/networks/back/connect", {"Container": "xx"}),
    ),
    "network": (
        nothing,
        steps(network("back"), lambda daemon: ask(daemon, "DELETE", "/networks/back")),
    ),
    "rename": (
        lambda daemon: run(daemon, "xx", **BUSY),
        lambda daemon: ask(daemon, "POST", "/containers/xx/rename?name=yy"),
    ),
}


@pytest.mark.timeout(900)  # a daemon starts anew for each moment, on an emulated machine too
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_daemon_leaves_whole_things_only(host: Host, seed: int) -> None:
    """isolation 79: listed means that it works, not listed that name and port are free."""
    moments = Random(seed)
    daemon = host.daemon()
    for prepare, act in WORKS.values():
        number = moments.randint(1, 7)
        network("front")(daemon)
        prepare(daemon)
        with killed_at(daemon, number), contextlib.suppress(*GONE):
            act(daemon)
        daemon = host.daemon()
        everything_works(daemon)


def everything_works(daemon: Daemon) -> None:
    """With all that is listed; then it is removed, and nothing may stand in its way."""
    for row in rows(daemon, "/containers/json?all=1"):
        found = f"/containers/{row['Id']}"
        if row["State"] == "running":
            names = ask(daemon, "GET", f"{found}/json")
            assert isinstance(names, dict)
            for place in names["NetworkSettings"]["Networks"].values():
                address = execute(daemon, str(row["Id"]), "hostname", "-I")
                assert place["IPAddress"] in address
            name = str(names["Name"]).removeprefix("/")
            assert name in execute(daemon, str(row["Id"]), "getent", "hosts", name)
        else:
            assert row["State"] in ("created", "exited")
            ask(daemon, "POST", f"{found}/start")
        ask(daemon, "GET", f"{found}/logs?stdout=1")
        ask(daemon, "POST", f"{found}/stop?t=0")
        ask(daemon, "DELETE", f"{found}?v=1")
    for row in rows(daemon, "/networks"):
        if row["Name"] not in ("bridge", "host", "none"):
            ask(daemon, "DELETE", f"/networks/{row['Id']}")
    volumes = ask(daemon, "GET", "/volumes")
    assert isinstance(volumes, dict)
    assert not volumes["Volumes"]
    network("front")(daemon)
    run(daemon, "xx", **BUSY)
    ask(daemon, "DELETE", "/containers/xx?force=1&v=1")
    ask(daemon, "DELETE", "/networks/front")
    assert "Traceback" not in daemon.log


def test_a_second_kill_while_it_restores_loses_nothing(host: Host) -> None:
    """isolation 76"""
    daemon = host.daemon()
    for name in ("one", "two"):
        run(daemon, name)
    before = {name: state(daemon, name) for name in ("one", "two")}
    daemon.kill()
    for number in (1, 4):
        starting = host.daemon(wait=False)
        with killed_at(starting, number):
            until(partial(ended_or_served, starting), "its start")
    daemon = host.daemon()
    assert {name: state(daemon, name) for name in ("one", "two")} == before


def ended_or_served(daemon: Daemon) -> bool:
    try:
        return daemon.process.poll() is not None or daemon.call("GET", "/_ping")[0] == 200
    except GONE:
        return False


def test_logs_have_neither_gap_nor_repeat(host: Host) -> None:
    """isolation 75; a client that follows sees all there is until the daemon goes"""
    daemon = host.daemon()
    run(daemon, "counts", "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.002; done")
    for _ in range(2):
        until(partial(has_lines, daemon, 20), "output")
        daemon.kill()
        daemon = host.daemon()
    before = len(lines(daemon))
    until(partial(has_lines, daemon, before + 20), "output after the last crash")
    counted = lines(daemon)
    assert counted == list(range(len(counted)))


def has_lines(daemon: Daemon, number: int) -> bool:
    return len(lines(daemon)) > number


def lines(daemon: Daemon) -> list[int]:
    framed = str(ask(daemon, "GET", "/containers/counts/logs?stdout=1"))
    return [int(number) for number in re.findall(r"(\d+)\n", framed)]


def test_what_ended_meanwhile_is_told_as_it_was(host: Host) -> None:
    """isolation 75: exit code, end time, restart policy and --rm are caught up."""
    daemon = host.daemon()
    run(daemon, "job", "sh", "-c", "trap 'exit 7' TERM; echo set; while :; do sleep 0.05; done")
    run(daemon, "once", AutoRemove=True)
    run(daemon, "again", "sleep", "1000", RestartPolicy={"Name": "on-failure"})
    run(daemon, "frozen")
    ask(daemon, "POST", "/containers/frozen/pause")
    pids = {name: pid(daemon, name) for name in ("job", "once", "again", "frozen")}
    until(lambda: "set" in str(ask(daemon, "GET", "/containers/job/logs?stdout=1")), "its trap")
    daemon.kill()
    os.kill(pids["job"], signal.SIGTERM)
    for name in ("once", "again"):
        os.kill(pids[name], signal.SIGKILL)
    until(lambda: len(list(daemon.exec_root.glob("containers/*/exit.json"))) == 3, "their ends")
    ended = time.time()
    daemon = host.daemon()
    job = state(daemon, "job")
    assert (job["Status"], job["ExitCode"]) == ("exited", 7)
    assert datetime.fromisoformat(f"{str(job['FinishedAt'])[:26]}+00:00").timestamp() < ended
    until(lambda: daemon.call("GET", "/containers/once/json")[0] == 404, "the end of --rm")
    until(partial(has_status, daemon, "again", "running"), "the restart by policy")
    assert pid(daemon, "again") != pids["again"]
    assert state(daemon, "frozen")["Status"] == "paused"
    assert pid(daemon, "frozen") == pids["frozen"]
    ask(daemon, "POST", "/containers/frozen/unpause")


# --- its helpers ------------------------------------------------------------------------------


def test_a_killed_shim_ends_its_container_and_no_other(host: Host) -> None:
    """isolation 77"""
    daemon = host.daemon()
    for name in ("one", "two", "again"):
        policy = {"RestartPolicy": {"Name": "always"}} if name == "again" else {}
        run(daemon, name, **policy)
    pids = {name: pid(daemon, name) for name in ("one", "two", "again")}
    for name in ("one", "again"):
        os.kill(shim_of(daemon, name), signal.SIGKILL)
    for name in ("one", "again"):
        await_end(pids[name])
    until(partial(has_status, daemon, "one", "exited"), "the end")
    assert state(daemon, "one")["ExitCode"] == 137
    until(lambda: pid(daemon, "again") not in (0, pids["again"]), "the restart by policy")
    assert pid(daemon, "two") == pids["two"]
    ask(daemon, "POST", "/containers/one/start")
    # And while no daemon is there to see it.
    daemon.kill()
    os.kill(shim_of(daemon, "two"), signal.SIGKILL)
    daemon = host.daemon()
    await_end(pids["two"])
    assert state(daemon, "two")["Status"] == "exited"
    assert state(daemon, "two")["ExitCode"] != 0
    ask(daemon, "POST", "/containers/two/start")


def shim_of(daemon: Daemon, name: str) -> int:
    for path in (daemon.data_root / "containers").glob("*/config.json"):
        if json.loads(path.read_text())["name"] == name:
            return shim_process(path.parent.name)
    raise AssertionError(f"no container {name}")


def test_a_killed_spawner_comes_again_and_nobody_notices(host: Host) -> None:
    daemon = host.daemon()
    run(daemon, "before")
    before = pid(daemon, "before")
    (spawner,) = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and parent(entry) == daemon.process.pid
    ]
    os.kill(spawner, signal.SIGKILL)
    run(daemon, "after")
    assert pid(daemon, "before") == before
    execute(daemon, "before", "true")


def parent(entry: Path) -> int:
    try:
        return int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
    except OSError:
        return 0


def test_two_daemons_and_the_crash_of_one(host: Host) -> None:
    first, second = host.daemon("first"), host.daemon("second")
    for daemon, port in ((first, "8081"), (second, "8082")):
        published = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
        serve = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=80)"
        body = {
            "Image": "rootfs:/",
            "Cmd": ["python3", "-c", serve],
            "WorkingDir": "/etc/alternatives",
            "HostConfig": {"PortBindings": published},
        }
        ask(daemon, "POST", "/containers/create?name=web", body)
        ask(daemon, "POST", "/containers/web/start")
        until(partial(reaches, host, int(port)), "its server")
    first.kill()
    assert reaches(host, 8081)
    assert reaches(host, 8082)
    ask(second, "DELETE", "/containers/web?force=1")
    assert reaches(host, 8081)
    assert second.stop() == 0
    first = host.daemon("first")
    assert reaches(host, 8081)
    host.daemon("second")


def reaches(host: Host, port: int) -> bool:
    try:
        return b"Directory" in host.fetch("127.0.0.1", port)
    except GONE:
        return False


def test_sigterm_in_the_middle_of_work_leaves_whole_things_too(host: Host) -> None:
    daemon = host.daemon()
    lives: list[str] = []
    enough = threading.Event()

    def live(name: str) -> None:
        with contextlib.suppress(*GONE, AssertionError):
            while True:
                run(daemon, name, "true")
                ask(daemon, "POST", f"/containers/{name}/wait")
                ask(daemon, "DELETE", f"/containers/{name}?force=1&v=1")
                lives.append(name)
                if len(lives) > 6:
                    enough.set()

    workers = [threading.Thread(target=live, args=(f"worker{n}",)) for n in range(3)]
    for worker in workers:
        worker.start()
    assert enough.wait(100)
    assert daemon.stop() == 0
    for worker in workers:
        worker.join()
    everything_works(host.daemon())


def test_broken_files_of_one_container_do_not_stop_the_others(host: Host) -> None:
    """isolation 83"""
    daemon = host.daemon()
    for name in ("torn", "whole"):
        run(daemon, name, "true")
        ask(daemon, "POST", f"/containers/{name}/wait")
        until(partial(has_status, daemon, name, "exited"), "its end")
    (torn,) = [
        path.parent
        for path in (daemon.data_root / "containers").glob("*/config.json")
        if json.loads(path.read_text())["name"] == "torn"
    ]
    daemon.kill()
    folder = daemon.exec_root / "containers" / torn.name
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in ("exit.json", "shim.json"):
        (folder / name).write_text('{"code": ')
    (torn / ".config.json.new").write_text("{")
    (torn / "state.json").write_text('{"state":')
    daemon = host.daemon()
    assert state(daemon, "whole")["Status"] == "exited"
    assert state(daemon, "torn")["Status"] == "exited"
    ask(daemon, "DELETE", "/containers/torn")
