"""pyengine's commands for containers, as they are typed."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.engine.cli.conftest import PYENGINE, Pyengine
from tests.host import Daemon, Host
from tests.terminal import Terminal

pytestmark = pytest.mark.kernel

IMAGE = "rootfs:/"
SLEEP = ("sleep", "1000")


def test_run_shows_output_passes_input_and_ends_as_its_command(pyengine: Pyengine) -> None:
    done = pyengine("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    done = pyengine("run", "--rm", "-i", IMAGE, "wc", "-c", input="x" * 300_000)
    assert done.stdout.strip() == "300000"
    assert pyengine("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_a_command_that_cannot_start_has_the_codes_of_a_shell(
    pyengine: Pyengine, command: str, code: int, text: str
) -> None:
    assert text in pyengine("run", "--rm", IMAGE, command, code=code).stderr


def test_what_run_cannot_do_ends_with_125(pyengine: Pyengine) -> None:
    for wrong in (["--nosuch", IMAGE], ["-p", "x", IMAGE], ["no_such:"]):
        assert pyengine("run", *wrong, code=125).stderr.count("pyengine: ") == 1
    for at_odds in (["-it", IMAGE, "sh"], ["-d", "-a", "stdout", IMAGE]):
        assert pyengine("run", *at_odds, code=1).stderr.count("pyengine: ") == 1


@pytest.mark.parametrize("command", ["run", "create", "pull", "push"])
def test_signatures_are_not_said_to_be_checked(pyengine: Pyengine, command: str) -> None:
    code = 125 if command == "run" else 1
    done = pyengine(command, "--disable-content-trust=false", IMAGE, code=code)
    assert "not supported" in done.stderr


def test_a_containers_life(pyengine: Pyengine, here: Path) -> None:
    options = ("--name", "one", "-p", "127.0.0.1:18080:80", "-l", "role=test", "-e", "A=1")
    identity = pyengine("run", "-d", *options, IMAGE, *SLEEP).stdout.strip()
    pyengine("create", "--name", "two", "--cidfile", "id", IMAGE, "sh", "-c", "echo two; exit 3")
    assert re.fullmatch("[0-9a-f]{64}", (here / "id").read_text())
    assert pyengine("ps", "-q", "--no-trunc").stdout.strip() == identity
    header, row = pyengine("ps").stdout.splitlines()
    assert header.split("   ")[0] == "CONTAINER ID"
    assert row.split()[:3] == [identity[:12], IMAGE, '"sleep']
    assert row.endswith("127.0.0.1:18080->80/tcp   one")
    shown = pyengine("ps", "-a", "--filter", "label=role", "--format", "{{.Names}} {{.State}}")
    assert shown.stdout == "one running\n"
    table = pyengine("ps", "-a", "--format", r'table {{.Names}}\t{{.Label "role"}}').stdout
    assert table.splitlines() == ["NAMES     role", "two", "one       test"]
    assert json.loads(pyengine("ps", "--format", "json").stdout)["Labels"] == "role=test"
    assert pyengine("start", "-a", "two", code=3).stdout == "two\n"
    assert pyengine("wait", "two").stdout == "3\n"
    done = pyengine("exec", "-e", "B=2", "one", "sh", "-c", "echo $A$B; exit 4", code=4)
    assert done.stdout == "12\n"
    assert pyengine("exec", "-i", "one", "cat", input="in").stdout == "in"
    assert pyengine("exec", "one", "nosuch", code=127)
    assert pyengine("port", "one", "80").stdout == "127.0.0.1:18080\n"
    assert pyengine("top", "one").stdout.splitlines()[1].endswith("sleep 1000")
    assert pyengine("rename", "one", "uno").stdout == ""
    assert pyengine("pause", "uno").stdout == "uno\n"
    assert "(Paused)" in pyengine("ps").stdout
    pyengine("unpause", "uno")
    pyengine("update", "-m", "64m", "--memory-swap", "64m", "uno")
    assert "no option" in pyengine("update", "uno", code=1).stderr
    format = '{{.HostConfig.Memory}} {{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}'
    assert pyengine("inspect", "-f", format, "uno").stdout == "67108864 18080\n"
    assert "0.00%" in pyengine("stats", "--no-stream", "uno").stdout
    pyengine("restart", "-t", "0", "uno")
    assert pyengine("stop", "-t", "0", "uno", "nosuch", code=1).stdout == "uno\n"
    assert pyengine("container", "start", "uno").stdout == "uno\n"
    assert pyengine("kill", "-s", "KILL", "uno").stdout == "uno\n"
    assert pyengine("rm", "-f", "uno", "two", "nosuch").stdout == "uno\ntwo\nnosuch\n"


def test_logs(pyengine: Pyengine) -> None:
    pyengine("run", "--name", "talker", IMAGE, "sh", "-c", "echo a; echo b >&2; echo c")
    done = pyengine("logs", "-t", "talker")
    assert re.fullmatch(r"\S+Z a\n\S+Z c\n", done.stdout)
    assert done.stderr.endswith("Z b\n")
    last = pyengine("logs", "-n", "1", "talker")
    assert last.stdout + last.stderr in ("b\n", "c\n")  # the two streams race
    assert "cannot read 'soon' as a time" in pyengine("logs", "--since", "soon", "x", code=1).stderr


def test_files(pyengine: Pyengine, here: Path) -> None:
    pyengine("run", "-d", "--name", "box", IMAGE, *SLEEP)
    (here / "in").write_text("content")
    assert "to box:/tmp/" in pyengine("cp", "in", "box:/tmp/").stderr
    pyengine("cp", "-q", "box:/tmp/in", "out")
    assert (here / "out").read_text() == "content"
    assert "A /tmp/in" in pyengine("diff", "box").stdout.splitlines()
    assert "/nosuch" in pyengine("cp", "box:/nosuch", "out", code=1).stderr
    assert "No such container" in pyengine("cp", "none:/nosuch", "out", code=1).stderr
    assert pyengine("cp", "in", "out", code=1).stderr.startswith("pyengine: one of the two must be")


def test_signals_reach_the_container(pyengine: Pyengine, shared_host: Host, daemon: Daemon) -> None:
    script = "trap 'echo got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen(
        shared_host.command([PYENGINE, "run", "--rm", IMAGE, "sh", "-c", script]),
        env=shared_host.environment({"DOCKER_HOST": daemon.address}),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "got\n"
    assert process.returncode == 9


def test_a_terminal_is_raw_resized_and_left_by_its_keys(
    pyengine: Pyengine, terminal: Callable[..., Terminal]
) -> None:
    one = terminal("run", "-it", "--name", "shell", IMAGE, "sh")
    one.type("stty size; echo $((6 * 7))\n")
    one.read_until(r"24 80\r\n42\r\n")
    one.resize(40, 120)
    one.type("while [ \"$(stty size)\" != '40 120' ]; do :; done; echo grown\n")
    one.read_until("grown\r\n")
    one.type("\x10\x11")
    assert one.end() == 0
    assert one.text.endswith("read escape sequence\r\n")
    two = terminal("attach", "--detach-keys", "ctrl-a,x", "shell")
    two.type("echo back; exit 5\n")
    two.read_until("back\r\n")
    assert two.end() == 5


def test_exec_on_a_terminal(pyengine: Pyengine, terminal: Callable[..., Terminal]) -> None:
    pyengine("run", "-d", "--name", "shell", IMAGE, *SLEEP)
    one = terminal("exec", "-it", "shell", "sh", "-c", "test -t 0 && echo tty; read x; exit $x")
    one.read_until("tty\r\n")
    one.type("6\n")
    assert one.end() == 6


def test_stats_are_drawn_again_until_interrupted(
    pyengine: Pyengine, terminal: Callable[..., Terminal]
) -> None:
    pyengine("run", "-d", "--name", "shell", IMAGE, *SLEEP)
    one = terminal("stats", "shell")
    one.read_until(r"(?s)CPU %.*shell .*\x1b\[H.*shell .*\x1b\[J")
    one.process.send_signal(signal.SIGINT)
    assert one.end() == 130


def test_without_a_name_stop_is_about_the_engine(pyengine: Pyengine, here: Path) -> None:
    done = pyengine("stop", "--exec-root", str(here))
    assert done.stderr == "pyengine: not running\n"
    assert "name no containers" in pyengine("stop", "--exec-root", "/x", "one", code=125).stderr


def test_input_and_output_become_a_connection(pyengine: Pyengine) -> None:
    """What ssh runs where Docker's command isn't."""
    request = "GET /_ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = pyengine("system", "dial-stdio", input=request).stdout
    assert answer.startswith("HTTP/1.1 200 OK\n")
    assert answer.endswith("\n\nOK")
    assert pyengine("system", "dial-stdio", input="").stdout == ""
