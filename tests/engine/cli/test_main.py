"""What the command line does before any engine is asked."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from engine.cli.app import main
from engine.cli.commands import GROUPS, find, names
from tests.host import ROOT


def test_version_is_that_of_the_package_and_imports_next_to_nothing() -> None:
    script = (
        "import sys; from engine.cli.main import run; run()\n"
        "print(sorted({'typer', 'asyncio', 'dataclasses', 're'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script, "--version"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert done.stdout == f"pyengine version {project['version']}\n[]\n"


def test_help_imports_nothing_heavy_and_fits_a_terminal() -> None:
    script = (
        "import sys; from pathlib import Path; from engine.cli.app import main\n"
        "main(['--help'], {}, Path.cwd())\n"
        "heavy = {'asyncio', 'aiohttp', 'h11', 'rich', 'json', 'tarfile'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stderr == "[]\n"
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_every_command_has_its_help(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in names(group):
        words = [*([group] if group else []), name, "--help"]
        assert main(words, {}, Path.cwd()) == 0
        shown = capsys.readouterr().out
        entry = find(group, name)
        assert entry is not None
        assert shown.startswith(f"Usage: pyengine {' '.join(words[:-1])} ")
        assert entry.help.split()[0] in shown


def test_what_is_no_command_is_told_with_what_comes_close(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["network", "creat"], {}, Path.cwd()) == 1
    assert capsys.readouterr().err == (
        "pyengine: there is no command 'creat': did you mean create?\n"
        "  hint: pyengine network --help\n"
    )
    assert main(["ps", "--nosuch"], {}, Path.cwd()) == 125
    assert main(["network"], {}, Path.cwd()) == 0
    assert "Connect a container" in capsys.readouterr().err
    assert main(["run"], {}, Path.cwd()) == 1
    assert capsys.readouterr().err == (
        "pyengine: Missing argument 'IMAGE'.\n  hint: pyengine run --help\n"
    )
