"""What shells are offered, and that they can read the scripts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compose.cli.completion import SCRIPTS
from tests.compose.corpus import ours
from tests.host import ROOT
from tests.terminal import Terminal

STACK = """
services:
  web: {image: x}
  worker: {image: x, profiles: [full]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(STACK)
    (tmp_path / "other.yaml").write_text("services: {elsewhere: {image: x}}")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["unp"], ["unpause"]),
        (["up", "w"], ["web", "worker"]),
        (["logs", "--ta"], ["--tail"]),
        (["up", "--pull", ""], ["always", "missing", "never"]),
        (["--profile", ""], ["full"]),
        (["--progress", "p"], ["plain"]),
        (["-f", "other.yaml", "exec", ""], ["elsewhere"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["--project-d"], ["--project-directory"]),
        (["nonsense", ""], []),
    ],
)
def test_words_are_completed(words: list[str], expected: list[str], folder: Path) -> None:
    code, text, said = ours(["complete", "--", *words], {}, folder)
    assert code == 0, said
    assert [line.partition("\t")[0] for line in text.splitlines()] == expected


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_shell_can_read_its_script(shell: str, folder: Path) -> None:
    code, script, _ = ours(["completion", shell], {}, folder)
    assert code == 0
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell} here")
    subprocess.run([program, "-n"], input=script, text=True, check=True)


@pytest.fixture
def surroundings(folder: Path) -> dict[str, str]:
    """With a program `pycompose`, and the script of each shell in the folder."""
    program = folder / "bin" / "pycompose"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m compose "$@"\n')
    program.chmod(0o755)
    for shell in SCRIPTS:
        (folder / f"script.{shell}").write_text(ours(["completion", shell], {}, folder)[1])
    path = f"{program.parent}:{os.environ['PATH']}"
    return {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(folder), "TERM": "dumb"}


def test_bash_offers_services(folder: Path, surroundings: dict[str, str]) -> None:
    script = """source script.bash
    COMP_WORDS=(pycompose up w); COMP_CWORD=2; _pycompose; echo ${COMPREPLY[@]}"""
    done = subprocess.run(
        ["bash", "--norc", "-c", script], cwd=folder, env=surroundings, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "web worker\n"


def test_fish_offers_services(folder: Path, surroundings: dict[str, str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    script = 'source script.fish; complete -C "pycompose up w"'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script], cwd=folder, env=surroundings, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "web\tservice\nworker\tservice\n"


def test_zsh_offers_services(folder: Path, surroundings: dict[str, str]) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    setup = f"cd {folder}; autoload -Uz compinit; compinit -u -D; source ./script.zsh; PS1='go> '"
    terminal = Terminal(["zsh", "-f", "-i"], surroundings)
    terminal.type(f"{setup}\n")
    terminal.read_until("\ngo> |\rgo> ")
    terminal.type("pycompose up wor\t")
    terminal.read_until("up wor[^ ]*ker")
    terminal.type("\x15pycompose logs --ta\t")
    terminal.read_until("logs --ta[^ ]*il")
    terminal.type("\x15exit\n")
    assert terminal.end() == 0


def test_an_unknown_shell_is_told(folder: Path) -> None:
    code, _, said = ours(["completion", "csh"], {}, folder)
    assert code == 1
    assert "bash, zsh, fish" in said
