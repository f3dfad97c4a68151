"""What a container's tar may do on this machine."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from compose.client.tars import pack, unpack
from compose.errors import UsageError


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as stream:
        for member, content in members:
            member.size = len(content)
            stream.addfile(member, io.BytesIO(content))
    written.seek(0)
    return written


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "target"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "name", ["../escaped", "top/../../escaped", "/escaped", "top/sub/../../../escaped"]
)
def test_a_name_that_leads_elsewhere_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="leads elsewhere"):
        unpack(tar((member(name), b"x")), folder, "top", owners=False)
    assert not (folder.parent / "escaped").exists()


@pytest.mark.parametrize("target", ["..", "/tmp", "."])
def test_nothing_is_written_through_a_link(folder: Path, target: str) -> None:
    hostile = tar((member("top/way", tarfile.SYMTYPE, target), b""),
                  (member("top/way/escaped"), b"x"))  # fmt: skip
    with pytest.raises(UsageError, match="cannot copy into top/way"):
        unpack(hostile, folder, "top", owners=False)
    assert not (folder.parent / "escaped").exists()


def test_a_link_of_the_same_name_is_replaced_not_followed(folder: Path) -> None:
    victim = folder.parent / "victim"
    victim.write_text("whole")
    hostile = tar((member("top", tarfile.SYMTYPE, str(victim)), b""), (member("top"), b"x"))
    unpack(hostile, folder, "top", owners=False)
    assert victim.read_text() == "whole"
    assert (folder / "top").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["../victim", "/etc/hostname"])
def test_a_hard_link_stays_inside(folder: Path, target: str) -> None:
    (folder.parent / "victim").write_text("whole")
    with pytest.raises((UsageError, FileNotFoundError)):
        unpack(tar((member("top", tarfile.LNKTYPE, target), b"")), folder, "top", owners=False)
    assert (folder.parent / "victim").stat().st_nlink == 1


def test_devices_and_pipes_are_refused(folder: Path) -> None:
    for kind in (tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with pytest.raises(UsageError, match="a device, a pipe or a socket"):
            unpack(tar((member("top", kind), b"")), folder, "top", owners=False)
    assert os.listdir(folder) == []


def test_what_is_no_file_here_is_not_replaced(folder: Path) -> None:
    os.mkfifo(folder / "top")  # as /dev/null might be
    with pytest.raises(UsageError, match="cannot overwrite top: it is a device, a pipe"):
        unpack(tar((member("any"), b"x")), folder, "top", owners=False)
    assert (folder / "top").is_fifo()


def test_there_and_back_again(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/a").write_text("a")
    os.link(source / "sub/a", source / "sub/b")
    (source / "link").symlink_to("sub/a")
    (source / "sub").chmod(0o555)
    os.utime(source / "sub/a", (1000, 1000))
    spool = io.BytesIO()
    pack(spool, source, "copy", follow=False)
    spool.seek(0)
    unpack(spool, folder, "other", owners=False)
    copy = folder / "other"
    assert (copy / "sub/a").read_text() == "a"
    assert (copy / "sub/a").stat().st_ino == (copy / "sub/b").stat().st_ino
    assert os.readlink(copy / "link") == "sub/a"
    assert (copy / "sub").stat().st_mode & 0o777 == 0o555
    assert (copy / "sub/a").stat().st_mtime == 1000
