"""A command that a warm process runs ends, stops and goes on with its caller."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.warm.conftest import Warm, await_end, until
from tests.scenarios.project import PYCOMPOSE
from tests.terminal import Terminal

pytestmark = pytest.mark.kernel


@pytest.fixture
def command(warm: Warm) -> Iterator[subprocess.Popen[str]]:
    process = warm.stack.start("logs", "-f")
    assert process.stdout is not None
    assert "hello" in process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, -signal.SIGHUP),
        (signal.SIGQUIT, -signal.SIGQUIT), (signal.SIGUSR1, -signal.SIGUSR1),
    ],
)  # fmt: skip
def test_a_signal_reaches_it(
    warm: Warm, command: subprocess.Popen[str], number: int, code: int
) -> None:
    child = warm.child()
    command.send_signal(number)
    assert command.wait(20) == code
    await_end(child)


def test_it_ends_when_its_caller_is_killed(warm: Warm, command: subprocess.Popen[str]) -> None:
    child = warm.child()
    command.kill()
    await_end(child)


def test_its_own_death_is_its_callers(warm: Warm, command: subprocess.Popen[str]) -> None:
    os.kill(warm.child(), signal.SIGKILL)
    assert command.wait(20) == -signal.SIGKILL


def test_it_outlives_the_warm_process(warm: Warm, command: subprocess.Popen[str]) -> None:
    """Nobody can know then how it ended."""
    server, child = warm.start(), warm.child()
    os.kill(server, signal.SIGKILL)
    await_end(server)
    warm.stack("exec", "-T", "web", "sh", "-c", "echo more > /proc/1/fd/1")
    assert command.stdout is not None
    assert "more" in command.stdout.readline()
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 1
    assert "cannot say how the command ended" in command.stdout.read()
    await_end(child)


def test_it_stops_and_goes_on(warm: Warm, command: subprocess.Popen[str]) -> None:
    """Ctrl-Z and fg."""
    child = warm.child()
    command.send_signal(signal.SIGTSTP)
    until(lambda: state(command.pid) == state(child) == "T", "the stop of both")
    command.send_signal(signal.SIGCONT)
    until(lambda: "T" not in (state(command.pid), state(child)), "both to go on")
    command.send_signal(signal.SIGTERM)
    assert command.wait(20) == 130


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def at_terminal(warm: Warm, *words: str) -> Terminal:
    """As in a shell: a session of its own with a controlling terminal."""
    host = warm.stack.host
    command = host.command([*PYCOMPOSE, *words], cwd=warm.stack.folder)
    return Terminal(["setsid", "--ctty", "--wait", *command],
                    host.environment(warm.stack.environment))  # fmt: skip


def test_ctrl_c_in_a_terminal_ends_it(warm: Warm) -> None:
    terminal = at_terminal(warm, "logs", "-f", "--tail", "1")
    terminal.read_until("web-1")
    warm.child()
    terminal.type("\x03")
    assert terminal.end() == 130


def test_ctrl_c_twice_ends_up(warm: Warm) -> None:
    """What reads from the terminal all the time is its own process."""
    (warm.stack.folder / "slow.yaml").write_text(
        """services:
  slow:
    image: rootfs:/
    command: [sh, -c, 'trap "echo told" TERM; echo on; while :; do sleep 0.1; done']
    stop_grace_period: 60s
"""
    )
    terminal = at_terminal(warm, "-f", "slow.yaml", "-p", "slow", "up")
    terminal.read_until(r"\|.*mon\r")
    assert warm.children() == []
    terminal.type("\x03")
    terminal.read_until(r"\|.*mtold\r")
    terminal.type("\x03")
    terminal.end()
    assert "slow-slow-1" not in [
        name for name, row in warm.stack.containers().items() if row["State"] == "running"
    ]
    warm.stack("-f", "slow.yaml", "-p", "slow", "down", "-t", "0")


def test_a_terminals_size_is_known_and_followed(warm: Warm) -> None:
    asked = "echo ready; until stty size | grep '30 111'; do :; done"
    terminal = at_terminal(warm, "exec", "web", "sh", "-c", asked)
    terminal.read_until("ready")
    terminal.resize(30, 111)
    terminal.read_until("30 111")
    assert terminal.end() == 0
