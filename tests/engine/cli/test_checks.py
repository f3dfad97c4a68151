"""What the daemon says on a machine or to a user that cannot run containers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.cli.checks import check_machine, check_user
from engine.errors import Failure


def test_ordinary_user_is_told_to_use_sudo() -> None:
    with pytest.raises(Failure, match=r"as an ordinary user.*sudo"):
        check_user(1000)
    check_user(0)


@pytest.mark.kernel
def test_machine_that_runs_these_tests_can_run_containers() -> None:
    check_machine()


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("capability", "lacking"), [("sys_admin", "mount anything"), ("net_admin", "change networks")]
)
def test_root_without_a_right_is_told_which(capability: str, lacking: str) -> None:
    without = ("setpriv", f"--bounding-set=-{capability}", f"--inh-caps=-{capability}")
    check = "from engine.cli.checks import check_machine; check_machine()"
    ended = subprocess.run(
        [*without, sys.executable, "-c", check],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert f"this root may not {lacking}" in ended.stderr
    assert "--privileged" in ended.stderr
