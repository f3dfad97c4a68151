from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from compose.apply.deliver import make_tar, remove_contents, write_content
from compose.plan.actions import FileCopy


def test_the_tar_carries_owner_mode_and_content() -> None:
    files = [FileCopy("/run/secrets/key", b"text", 10, 20, 0o440)]
    with tarfile.open(fileobj=io.BytesIO(make_tar(files, modified=5))) as tar:
        (entry,) = tar.getmembers()
        assert (entry.name, entry.uid, entry.gid, entry.mode, entry.mtime) == (
            "run/secrets/key", 10, 20, 0o440, 5
        )  # fmt: skip
        read = tar.extractfile(entry)
        assert read is not None
        assert read.read() == b"text"


def test_a_content_is_written_with_its_mode_in_a_folder_that_nobody_else_sees(
    tmp_path: Path,
) -> None:
    path = tmp_path / "contents" / "demo" / "digest"
    write_content(FileCopy(str(path), b"text", os.getuid(), os.getgid(), 0o444))
    assert path.read_bytes() == b"text"
    assert path.stat().st_mode & 0o7777 == 0o444
    assert path.parent.stat().st_mode & 0o7777 == 0o700


@pytest.mark.kernel
def test_a_content_gets_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "demo" / "digest"
    write_content(FileCopy(str(path), b"text", 10, 20, 0o400))
    assert (path.stat().st_uid, path.stat().st_gid) == (10, 20)


def test_the_last_project_takes_the_folder_with_it(tmp_path: Path) -> None:
    for name in ("demo", "shop"):
        path = tmp_path / "contents" / name / "digest"
        write_content(FileCopy(str(path), b"", os.getuid(), os.getgid(), 0o444))
    remove_contents(tmp_path / "contents" / "demo")
    assert (tmp_path / "contents" / "shop" / "digest").exists()
    remove_contents(tmp_path / "contents" / "shop")
    assert list(tmp_path.iterdir()) == []
