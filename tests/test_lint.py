"""One command says "may I commit?": formatting, lint and types are tests like the others."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.host import ROOT

COMMANDS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_tree_is_clean(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *COMMANDS[name]], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
