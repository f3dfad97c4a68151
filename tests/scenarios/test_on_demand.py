"""The built-in engine on a fresh machine: started by who needs it first, found by all others."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import ROOT, Host
from tests.scenarios.project import PYCOMPOSE

pytestmark = pytest.mark.kernel

PYENGINE = (sys.executable, "-m", "engine.cli.main")
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}
SERVICE = 'services: {job: {image: "rootfs:/", command: sleep 1000, init: true}}\n'


@pytest.fixture
def machine(host: Host) -> Iterator[Host]:
    """A host with nothing in /run and /var/lib yet; afterwards there has to be nothing again."""
    for folder in ("/run", "/var/lib"):
        host.run("mount", "--no-mtab", "-t", "tmpfs", "tmpfs", folder)
    yield host
    for name in ("one", "two"):
        if (host.folder / name).exists():
            compose(host, name, "down", "-v", "-t", "0")
    host.run(*PYENGINE, "stop", env=ENVIRONMENT)
    assert inhabitants(host) == {host.pid}
    left = host.run("find", "/run", "/var/lib", "-mindepth", "1").stdout.split()
    assert left == []
    assert host.leftovers() == []


def inhabitants(host: Host) -> set[int]:
    """The processes in the host's mount namespace: daemon, spawner and shims are."""
    wanted = os.readlink(f"/proc/{host.pid}/ns/mnt")
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/mnt") == wanted:
                    found.add(int(entry.name))
    return found


def project(host: Host, name: str) -> Path:
    folder = host.folder / name
    folder.mkdir()
    (folder / "compose.yaml").write_text(SERVICE)
    return folder


def compose(host: Host, name: str, *arguments: str) -> str:
    done = host.run(*PYCOMPOSE, *arguments, env=ENVIRONMENT, cwd=host.folder / name)
    return done.stdout


def start(host: Host, name: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        host.command([*PYCOMPOSE, *arguments], cwd=host.folder / name), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=host.environment(ENVIRONMENT),
    )  # fmt: skip
    host.processes.append(process)
    return process


def engine_pid(host: Host) -> int:
    status = host.run(*PYENGINE, "status", env=ENVIRONMENT).stdout
    assert status.startswith("running (pid ")
    return int(status.split("(pid ")[1].split(")")[0])


def test_two_projects_at_once_share_one_engine(machine: Host) -> None:
    assert machine.run(*PYENGINE, "status", env=ENVIRONMENT, check=False).returncode == 3
    for name in ("one", "two"):
        project(machine, name)
    both = [start(machine, name, "up", "--detach") for name in ("one", "two")]
    for process in both:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    engine_pid(machine)
    assert "containers  2 running" in machine.run(*PYENGINE, "status", env=ENVIRONMENT).stdout
    log = machine.run("cat", "/run/pycompose/engine.log").stdout
    assert log.count("pyengine 0.1.0 serves") == 1
    assert machine.run("stat", "-c", "%a", "/run/pycompose/engine.log").stdout == "600\n"


def children(pid: int) -> set[int]:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended by now
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def test_what_a_crash_left_is_no_obstacle(machine: Host) -> None:
    """A stale socket, lock and record, and the exec root of an older boot."""
    project(machine, "one")
    compose(machine, "one", "up", "--detach")
    os.kill(engine_pid(machine), signal.SIGKILL)
    machine.run("touch", "/run/pycompose/start.lock")
    assert machine.run("test", "-S", "/run/pycompose/engine.sock").returncode == 0
    compose(machine, "one", "up", "--detach")
    assert "containers  1 running" in machine.run(*PYENGINE, "status", env=ENVIRONMENT).stdout
    # A power cut: no process is left, /run comes up empty, /var/lib as it was.
    while own := inhabitants(machine) - {machine.pid}:
        for pid in own.union(*map(children, own)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    machine.run("rm", "-r", "/run/pycompose")
    compose(machine, "one", "up", "--detach")
    assert "containers  1 running" in machine.run(*PYENGINE, "status", env=ENVIRONMENT).stdout


def test_killed_it_comes_back_by_itself(machine: Host) -> None:
    project(machine, "one")
    compose(machine, "one", "up", "--detach")
    log = subprocess.Popen(
        machine.command(["tail", "-n", "+1", "-F", "/run/pycompose/engine.log"]),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    machine.processes.append(log)
    before = engine_pid(machine)
    os.kill(before, signal.SIGKILL)
    assert log.stdout is not None
    said = ""
    for line in log.stdout:
        said += line
        if said.count(" serves ") == 2:
            break
    log.terminate()
    log.wait()
    assert f"the engine was killed (pid {before}); starting it again" in said
    assert engine_pid(machine) != before
    assert "containers  1 running" in machine.run(*PYENGINE, "status", env=ENVIRONMENT).stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_it_outlives_the_terminal_that_it_was_started_from(machine: Host, number: int) -> None:
    """Ctrl-C and a closed terminal hit the whole foreground group: the engine isn't in it."""
    project(machine, "one")
    master, terminal = pty.openpty()
    command = machine.command([*PYCOMPOSE, "up"], machine.folder / "one")
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command],
        stdin=terminal, stdout=terminal, stderr=terminal, env=machine.environment(ENVIRONMENT),
    )  # fmt: skip
    os.close(terminal)
    read_until(master, b"started")
    before = engine_pid(machine)
    if number == signal.SIGINT:
        os.write(master, b"\x03")
        drain(master)
        os.close(master)
    else:
        os.close(master)  # the kernel sends SIGHUP
    process.wait(40)
    assert engine_pid(machine) == before


def read_until(descriptor: int, word: bytes) -> bytes:
    text = b""
    while word.lower() not in text.lower():
        assert select.select([descriptor], [], [], 40)[0], text
        text += os.read(descriptor, 4096)
    return text


def drain(descriptor: int) -> None:
    while True:
        try:
            if not os.read(descriptor, 4096):
                return
        except OSError:  # EIO: nobody has the terminal open any more
            return
