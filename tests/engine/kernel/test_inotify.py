import os
from pathlib import Path

import pytest

from engine.kernel import inotify
from engine.kernel.libc import KernelError


def test_growth_creation_and_moves_are_told(tmp_path: Path) -> None:
    descriptor = inotify.inotify_init()
    try:
        mask = inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_TO
        watch = inotify.add_watch(descriptor, str(tmp_path), mask)
        assert inotify.read_events(descriptor) == []
        (tmp_path / "a").write_text("x")
        (tmp_path / "a").rename(tmp_path / "b")
        assert inotify.read_events(descriptor) == [
            (watch, inotify.IN_CREATE), (watch, inotify.IN_MODIFY), (watch, inotify.IN_MOVED_TO),
        ]  # fmt: skip
        inotify.remove_watch(descriptor, watch)
        (tmp_path / "b").write_text("y")
        assert inotify.read_events(descriptor) == [(watch, inotify.IN_IGNORED)]
    finally:
        os.close(descriptor)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    descriptor = inotify.inotify_init()
    try:
        with pytest.raises(KernelError, match="inotify_add_watch"):
            inotify.add_watch(descriptor, str(tmp_path / "no"), inotify.IN_MODIFY)
    finally:
        os.close(descriptor)
