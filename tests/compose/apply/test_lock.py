from __future__ import annotations

import multiprocessing
import os
from contextlib import suppress
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


def killed_at_work(folder: Path, project: str) -> None:
    pid = os.fork()
    if pid == 0:
        lock = project_lock(folder, engine="e", project=project, action="up")
        lock.__enter__()
        os._exit(0)
    os.waitpid(pid, 0)


def test_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    killed_at_work(tmp_path, "demo")
    with project_lock(tmp_path, engine="e", project="demo", action="up"):
        pass


def test_what_killed_ones_left_goes_with_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "locks"
    killed_at_work(folder, "demo")
    killed_at_work(folder, "shop")
    assert len(list(folder.iterdir())) == 2
    with project_lock(folder, engine="e", project="other", action="up"):
        with project_lock(folder, engine="e", project="third", action="up"):
            pass
        assert len(list(folder.iterdir())) == 1  # that of who is at work
    assert list(tmp_path.iterdir()) == []


def test_no_two_have_it_however_often_it_comes_and_goes(tmp_path: Path) -> None:
    """Processes take and leave it while its file and folder come and go with each of them."""
    witness = tmp_path / "witness"

    def work() -> None:
        got = 0
        while got < 200:
            with (
                suppress(Busy),
                project_lock(tmp_path / "locks", engine="e", project="demo", action="up"),
            ):
                witness.touch(exist_ok=False)
                witness.unlink()
                got += 1

    processes = [multiprocessing.get_context("fork").Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == []


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
