"""Whose commands a warm process runs, and when it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from compose.warm.door import open_door, peer_of
from compose.warm.place import server_folder, server_name
from tests.compose.warm.conftest import STACK, Warm, await_end, until
from tests.host import ROOT, Host
from tests.scenarios.project import PYCOMPOSE, project

pytestmark = pytest.mark.kernel


def served(pid: int) -> int:
    """Grows whenever a child has ended: the page faults of those, in proc(5) `cminflt`."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[8])


@pytest.fixture
def fresh(place: Host, request: pytest.FixtureRequest) -> Warm:
    """Of an engine that the test may end."""
    name = f"engine{abs(hash(request.node.name)) % 10_000}"
    daemon = place.daemon(name)
    return Warm(project(place, STACK, f"{name}-shop", daemon))


def test_a_cold_command_starts_one_and_the_next_is_run_by_it(warm: Warm) -> None:
    pid = warm.start()
    before = served(pid)
    cold = warm.stack("ps", "--services", env={"PYCOMPOSE_WARM": "0"})
    assert served(pid) == before
    assert warm.stack("ps", "--services").stdout == cold.stdout == "web\n"
    until(lambda: served(pid) > before, "the end of the command")
    assert warm.start() == pid


@pytest.mark.parametrize(
    "words",
    [
        ("config",), ("ps", "--nothing"), ("lgos",), ("-f", "absent.yaml", "config"), ("--help",),
        ("up", "-d"), ("exec", "-T", "web", "sh", "-c", "echo out; echo err >&2; exit 7"),
        ("logs", "--no-color"), ("complete", "--", "logs", ""), (),
    ],
)  # fmt: skip
def test_it_says_and_returns_the_same(warm: Warm, words: tuple[str, ...]) -> None:
    cold = warm.stack(*words, check=False, env={"PYCOMPOSE_WARM": "0"})
    done = warm.stack(*words, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        cold.returncode, cold.stdout, cold.stderr,
    )  # fmt: skip


def test_pyengine_is_served_by_the_same(warm: Warm) -> None:
    pid = warm.start()
    before = served(pid)
    command = (sys.executable, "-m", "engine.cli.main", "ps", "--format", "{{.Names}}")
    done = warm.stack.host.run(*command, env=warm.stack.environment)
    assert done.stdout == "shop-web-1\n"
    until(lambda: served(pid) > before, "the end of the command")


def test_commands_at_once_start_one(fresh: Warm) -> None:
    processes = [fresh.stack.start("ps") for _ in range(6)]
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0, output
    until(lambda: fresh.door.exists() and len(fresh.pids) == 1, "one server")


def test_two_servers_of_a_name_cant_be(tmp_path: Path) -> None:
    path = tmp_path / "run" / "warm" / "name.sock"
    one = open_door(path)
    assert one is not None
    assert open_door(path) is None
    one.close()
    assert not (tmp_path / "run").exists()


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "warm").mkdir(mode=0o755)
    with pytest.raises(PermissionError, match="not ours alone"):
        open_door(tmp_path / "warm" / "name.sock")


def test_it_ends_when_nobody_calls(warm: Warm) -> None:
    """With less patience than usual, on a connection that stays."""
    stack, variable = warm.stack, {"PYTHONPATH": f"{ROOT}:/idle"}  # a kind of its own
    environment = stack.host.environment({**stack.environment, **variable})
    name = server_name(stack.daemon.socket, environment)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        code = "import compose.warm.server as server; server.main(idle=0.01)"
        command = [sys.executable, "-c", code, stack.daemon.socket, str(theirs.fileno()), name]
        process = subprocess.Popen(
            stack.host.command(command), env=environment, pass_fds=(theirs.fileno(),),
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert b"rehearsal" in said  # so it had come up
    assert not Path(server_folder({}), name).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_engine(fresh: Warm, number: int) -> None:
    pid = fresh.start()
    fresh.stack.daemon.process.send_signal(number)
    fresh.stack.daemon.process.wait()
    await_end(pid)
    assert not fresh.door.exists()


def test_pyengine_shows_it_and_waits_for_its_end(fresh: Warm) -> None:
    pid = fresh.start()
    daemon = fresh.stack.daemon
    command = [sys.executable, "-m", "engine.cli.main"]
    options = ("--exec-root", str(daemon.exec_root))
    status = fresh.stack.host.run(*command, "status", *options, env=fresh.stack.environment)
    assert f"warm        pid {pid}, " in status.stdout
    assert status.stdout.count("warm ") == 1  # what shows it is a child of it
    fresh.stack.host.run(*command, "stop", *options, env=fresh.stack.environment)
    await_end(pid, limit=0)
    assert not fresh.door.exists()


def test_a_crash_of_it_is_no_obstacle(fresh: Warm) -> None:
    pid = fresh.start()
    os.kill(pid, signal.SIGKILL)
    await_end(pid)
    until(lambda: peer_of(fresh.door) is None, "the end of its child, which has the door, too")
    assert fresh.door.exists()
    assert fresh.start() != pid


def test_a_child_that_was_killed_while_it_waited_is_replaced(warm: Warm) -> None:
    pid = warm.start()
    spare = warm.spare()
    os.kill(spare, signal.SIGKILL)
    await_end(spare)
    assert warm.stack("ps", "--services").stdout == "web\n"
    assert warm.spare() != spare
    before = served(pid)
    assert warm.stack("ps", "--services").stdout == "web\n"
    until(lambda: served(pid) > before, "the end of a command that it ran")


@pytest.mark.parametrize(
    ("number", "hangs"), [(signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGKILL, False)]
)
def test_its_child_that_waits_ends_with_it(warm: Warm, number: int, hangs: bool) -> None:
    pid, spare = warm.start(), warm.spare()
    if hangs:
        os.kill(spare, signal.SIGSTOP)
    os.kill(pid, number)
    await_end(pid)
    await_end(spare)


def test_a_child_that_hangs_is_done_without(warm: Warm) -> None:
    spare = warm.spare()
    os.kill(spare, signal.SIGSTOP)
    assert warm.stack("ps", "--services").stdout == "web\n"
    await_end(spare)


def test_one_that_hangs_is_done_without(fresh: Warm) -> None:
    pid = fresh.start()
    os.kill(pid, signal.SIGSTOP)
    try:
        assert fresh.stack("ps").returncode == 0
    finally:
        os.kill(pid, signal.SIGCONT)


def test_it_can_be_turned_off(fresh: Warm) -> None:
    fresh.stack("ps", env={"PYCOMPOSE_WARM": "0"})
    assert fresh.pids == []
    fresh.stack("ps")
    assert len(fresh.pids) == 1


def test_a_command_that_meets_no_engine_starts_none(fresh: Warm) -> None:
    fresh.stack("config")
    assert fresh.pids == []


def test_changed_code_is_never_run_stale(fresh: Warm) -> None:
    """As after `pip install -U`, or an edit in a checkout."""
    copy = fresh.stack.host.folder / "copy"
    for name in ("compose", "engine", "schemas"):
        shutil.copytree(ROOT / name, copy / name)
    fresh.stack.environment["PYTHONPATH"] = str(copy)
    fresh.stack("ps")
    (pid,) = fresh.pids
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "pycompose-warm\n", "its readiness")
    fresh.stack("version")
    assert fresh.pids == [pid]
    source = copy / "compose" / "__init__.py"
    source.write_text(source.read_text().replace("VERSION = ", "VERSION = 'new' or "))
    assert fresh.stack("version").stdout.split()[-1] == "new"
    await_end(pid)


@pytest.mark.parametrize("kind", ["--net", "--mount", "--uts", "--ipc", "--cgroup", "--pid"])
def test_a_caller_in_another_namespace_runs_cold(warm: Warm, kind: str) -> None:
    """It meets the same engine through the same socket; what it does has to be done there."""
    host = warm.stack.host
    more = ["--fork", "--mount-proc"] if kind == "--pid" else []
    command = ["unshare", kind, *more, *PYCOMPOSE, "logs", "-f"]
    process = subprocess.Popen(
        host.command(command, cwd=warm.stack.folder), stdout=subprocess.PIPE, text=True,
        env=host.environment(warm.stack.environment),
    )  # fmt: skip
    host.processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline()
    assert warm.children() == []
    process.kill()


@pytest.mark.parametrize(
    "prefix",
    [
        ("setpriv", "--no-new-privs"),
        ("setpriv", "--bounding-set", "-sys_time"),
        ("setpriv", "--groups", "12345"),
        ("taskset", "1"),
    ],
)
def test_a_caller_with_other_rights_runs_cold(warm: Warm, prefix: tuple[str, ...]) -> None:
    host = warm.stack.host
    process = subprocess.Popen(
        host.command([*prefix, *PYCOMPOSE, "logs", "-f"], cwd=warm.stack.folder),
        stdout=subprocess.PIPE, text=True, env=host.environment(warm.stack.environment),
    )  # fmt: skip
    host.processes.append(process)
    assert process.stdout is not None
    assert process.stdout.readline()
    assert warm.children() == []
    process.kill()


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ((sys.executable, "-O", "-m", "compose"), {}),
        (PYCOMPOSE, {"PYTHONWARNINGS": "error"}),
        (PYCOMPOSE, {"LC_ALL": "POSIX"}),
    ],
)
def test_another_interpreter_has_no_part_in_it(
    warm: Warm, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    pid = warm.start()
    before = served(pid)
    stack = warm.stack
    stack.host.run(
        *command, "ps", env={**stack.environment, **environment}, cwd=stack.folder
    )  # fmt: skip
    assert served(pid) == before
