"""What shells offer, asked as a person asks them: with the tab key."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.shells import SHELLS
from tests.engine.cli.conftest import PYENGINE, Pyengine
from tests.host import Daemon, Host
from tests.terminal import Terminal

pytestmark = pytest.mark.kernel

INTERACTIVE = {
    "bash": (["bash", "--norc", "-i"], "source <(pyengine completion bash); PS1='go> '"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -Uz compinit; compinit -u -D; source <(pyengine completion zsh); PS1='go> '",
    ),
}


@pytest.fixture
def zebra(pyengine: Pyengine) -> Iterator[None]:
    """A container, and an image with two colons' worth of name."""
    pyengine("create", "--name", "zebra", "rootfs:/", "true")
    pyengine("commit", "zebra", "stripes:black")
    pyengine("network", "create", "savanna")
    yield
    pyengine("rm", "zebra")
    pyengine("rmi", "stripes:black")
    pyengine("network", "rm", "savanna")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("netw",), "network"),
        (("stop", "ze"), "zebra"),
        (("run", "--memory-s"), "--memory-swap --memory-swappiness"),
        (("run", "--network", "sa"), "savanna"),
        (("run", "--network=sa"), "--network=savanna"),
        (("run", "--pid", "container:"), "container:zebra"),
        (("run", "--pull", ""), "missing always never"),
        (("run", "--rm", "-it", "str"), "stripes:black"),
        (("cp", "ze"), "zebra:"),
        (("inspect", "z"), "zebra"),
        (("kill", "-s", "SIGUS"), "SIGUSR1 SIGUSR2"),
        (("ps", "--format", ""), "json table"),
        (("completion", ""), "bash zsh fish"),
        (("-H", "unix:///nonexistent", "stop", ""), ""),
        (("nonsense", ""), ""),
    ],
)
def test_words_are_completed(
    pyengine: Pyengine, zebra: None, words: tuple[str, ...], expected: str
) -> None:
    done = pyengine("complete", "--", *words)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == expected.split()
    assert done.stderr == ""


@pytest.mark.parametrize("shell", INTERACTIVE)
def test_a_shell_completes_words_with_colons_and_equals(
    shell: str, shared_host: Host, daemon: Daemon, zebra: None
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    command, setup = INTERACTIVE[shell]
    path = f"{Path(PYENGINE).parent}:{os.environ['PATH']}"
    environment = {"DOCKER_HOST": daemon.address, "TERM": "dumb", "PATH": path}
    terminal = Terminal(shared_host.command(command), shared_host.environment(environment))
    terminal.type(f"{setup}\n")
    terminal.read_until("\ngo> |\rgo> ")
    for typed, shown in (
        ("pyengine stop ze", "ze[^ ]*bra "),
        ("pyengine rmi stripes:", "stripes:[^ s]*black "),
        ("pyengine run --network=sa", "--network=sa[^ -]*vanna "),
        ("pyengine cp ze", "ze[^ ]*bra:"),
    ):
        terminal.text = ""
        terminal.type(f"\x15{typed}\t")
        terminal.read_until(shown)
    terminal.type("\x15exit\n")
    assert terminal.end() == 0


def test_fish_completes_names_and_else_paths(
    pyengine: Pyengine, shared_host: Host, daemon: Daemon, here: Path, zebra: None
) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    (here / "folder").mkdir()
    (here / "script").write_text(pyengine("completion", "fish").stdout)
    environment = {"DOCKER_HOST": daemon.address, "PATH": f"{Path(PYENGINE).parent}:/bin:/usr/bin"}
    for asked, expected in (("rmi stripes:b", "stripes:black\n"), ("build ./fo", "./folder/\n")):
        script = f'source script; complete -C "pyengine {asked}"'
        done = shared_host.run(
            "fish", "--no-config", "-c", script, cwd=here, env=environment
        )  # fmt: skip
        assert done.stdout == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_its_script(pyengine: Pyengine, shared_host: Host, shell: str) -> None:
    script = pyengine("completion", shell).stdout
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    shared_host.run(shell, "-n", input=script)


def test_another_shell_is_told(pyengine: Pyengine) -> None:
    assert "bash, zsh, fish" in pyengine("completion", "csh", code=1).stderr
