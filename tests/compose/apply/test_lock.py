from __future__ import annotations

import os
from pathlib import Path

import pytest

from compose.apply.lock import project_lock
from compose.errors import Busy, UsageError


def test_a_second_change_is_told_who_is_at_work(tmp_path: Path) -> None:
    with (
        project_lock(tmp_path, engine="e", project="demo", action="up"),
        pytest.raises(Busy, match=f"changing project demo: up, process {os.getpid()}"),
        project_lock(tmp_path, engine="e", project="demo", action="down"),
    ):
        raise AssertionError("both have the lock")


def test_other_projects_and_engines_are_free(tmp_path: Path) -> None:
    with (
        project_lock(tmp_path, engine="e", project="demo", action="up"),
        project_lock(tmp_path, engine="e", project="shop", action="up"),
        project_lock(tmp_path, engine="f", project="demo", action="up"),
    ):
        pass


def test_the_lock_ends_with_the_change(tmp_path: Path) -> None:
    for _ in range(2):
        with project_lock(tmp_path, engine="e", project="demo", action="up"):
            pass


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        lock = project_lock(tmp_path, engine="e", project="demo", action="up")
        lock.__enter__()
        os._exit(0)
    os.waitpid(pid, 0)
    with project_lock(tmp_path, engine="e", project="demo", action="up"):
        pass


def test_nothing_is_left_of_a_lock(tmp_path: Path) -> None:
    with project_lock(tmp_path / "locks", engine="e", project="demo", action="up"):
        assert len(list((tmp_path / "locks").iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kernel
def test_a_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with (
        pytest.raises(UsageError, match="belongs to another user"),
        project_lock(folder, engine="unix:///x", project="shop", action="up"),
    ):
        pass
