"""The program that stays as a container's first process, by itself: no namespaces are needed."""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runtime import channel, reaper

# What a first process does before it becomes the reaper; the payload is Python code.
_PARENT = """
import os, signal, sys
program, payload, supervisor = sys.argv[1], sys.argv[2], int(sys.argv[3])
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
if supervisor >= 0:
    os.dup2(supervisor, 3)
    os.set_inheritable(supervisor, supervisor == 3)
begin = "import os, signal, sys;" + payload
python = os.environ.get("PROGRAM", sys.executable)
os.execve(program, ("pycompose-init", python, "python", "-c", begin, "é"), {"A": "b c"})
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "reaper"
    path.write_bytes(reaper.program(platform.machine()))
    path.chmod(0o755)
    return path


def _begin(program: Path, payload: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _PARENT, str(program), payload, "-1"]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_exit_code_is_the_payloads(program: Path, code: int) -> None:
    with _begin(program, f"os._exit({code})") as process:
        assert process.wait() == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_death_by_a_signal_is_told_as_shells_do(program: Path, number: int) -> None:
    with _begin(program, f"os.kill(os.getpid(), {int(number)})") as process:
        assert process.wait() == 128 + number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGWINCH, 34, 64])
def test_signals_are_handed_on(program: Path, number: int) -> None:
    payload = (
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [{int(number)}]);"
        "os.write(1, b'ready\\n');"
        f"os._exit(signal.sigwait([{int(number)}]))"
    )
    with _begin(program, payload) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait() == number


def test_end_of_another_child_is_not_the_payloads(program: Path) -> None:
    """An orphan comes to PID 1: here a second child of the same parent plays it."""
    parent = _PARENT.replace("begin =", "os.fork() or os._exit(3)\nbegin =")
    payload = "print('on', flush=True); sys.stdin.read(); os._exit(5)"
    argv = [sys.executable, "-c", parent, str(program), payload, "-1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "on\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(children.read_text().split()) > 1:
            os.sched_yield()
        process.stdin.close()
        assert process.wait() == 5


def test_payload_gets_arguments_environment_and_a_group_of_its_own(program: Path) -> None:
    payload = (
        "print(sys.argv, os.environ['A'], os.getpgid(0) == os.getpid());"
        "print(os.listdir('/proc/self/fd'));"
        "print(open('/proc/self/status').read())"
    )
    with _begin(program, payload) as process:
        assert process.stdout is not None
        first, descriptors, *status = process.stdout.read().splitlines()
    assert first == "['-c', 'é'] b c True"
    assert descriptors == "['0', '1', '2', '3']"  # the last is the listing itself
    found = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    assert int(found["SigBlk"], 16) == 0
    # What Python itself ignores, and what whoever started the tests had it ignore, is theirs; and
    # posix_spawn, by which a newer Python starts programs, ignores glibc's own two: 32 and 33.
    own = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert int(found["SigIgn"], 16) & ~(int(own["SigIgn"], 16) | 0b11 << 31) == 0


@pytest.mark.parametrize(("path", "number"), [("/none/such", errno.ENOENT), ("/etc", errno.EACCES)])
def test_supervisor_hears_what_cannot_be_executed(program: Path, path: str, number: int) -> None:
    ours, theirs = channel.pair()
    argv = [sys.executable, "-c", _PARENT, str(program), "", str(theirs.fileno())]
    environment = {**os.environ, "PROGRAM": path}
    with ours, subprocess.Popen(argv, pass_fds=[theirs.fileno()], env=environment) as process:
        theirs.close()
        message = channel.receive(ours)
        assert message is not None
        assert reaper.failure(str(message.body["state"])) == number
        assert channel.receive(ours) is None
        assert process.wait() == 126


def test_supervisor_hears_the_end_of_the_socket_once_the_payload_runs(program: Path) -> None:
    ours, theirs = channel.pair()
    payload = "sys.stdin.read(1)"
    argv = [sys.executable, "-c", _PARENT, str(program), payload, str(theirs.fileno())]
    with (
        ours,
        subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[theirs.fileno()]) as process,
    ):
        theirs.close()
        assert channel.receive(ours) is None
        process.communicate(b"x")
        assert process.returncode == 0


def test_it_takes_a_few_pages_and_its_own_name(program: Path) -> None:
    with _begin(program, "print('up', flush=True); signal.pause()") as process:
        assert process.stdout is not None
        process.stdout.readline()
        about = Path(f"/proc/{process.pid}")
        while (about / "comm").read_text() != "pycompose-init\n":
            os.sched_yield()
        status = dict(line.split(":", 1) for line in (about / "status").read_text().splitlines())
        assert int(status["RssAnon"].split()[0]) <= 64
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM


def test_reaper_is_sealed() -> None:
    script = (
        "import fcntl, os; from engine.runtime import reaper; reaper.keep();"
        "print(fcntl.fcntl(reaper.DESCRIPTOR, fcntl.F_GET_SEALS));"
        "os.write(reaper.DESCRIPTOR, b'x')"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    assert int(ran.stdout) == seals
    assert "PermissionError" in ran.stderr


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_executable_is_well_formed(machine: str, number: int) -> None:
    content = reaper.program(machine)
    kind, found, _, entry, segments = struct.unpack_from("<2HI2Q", content, 16)
    assert (content[:5], kind, found, segments) == (b"\x7fELF\x02", 2, number, 64)
    loaded = struct.unpack_from("<2I6Q", content, segments)
    assert loaded[:3] == (1, 5, 0)
    assert loaded[5] == len(content)
    assert loaded[3] < entry < loaded[3] + len(content)
