"""What shells are offered, and that they can read the scripts."""

import shutil
import subprocess
from pathlib import Path

import pytest

from compose.cli.completion import SCRIPTS
from tests.compose.corpus import ours

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


def test_an_unknown_shell_is_told(folder: Path) -> None:
    code, _, said = ours(["completion", "csh"], {}, folder)
    assert code == 1
    assert "bash, zsh, fish" in said
