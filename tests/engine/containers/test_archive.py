"""Files in and out of a root, with links that lead elsewhere on purpose."""

from __future__ import annotations

import base64
import ctypes
import gzip
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.containers.archive import (
    go_mode,
    read_archive,
    stat_header,
    stat_path,
    write_archive,
)
from engine.errors import Failure, InvalidRequest, NotFound
from engine.kernel.overlay import Bind, on_tree
from tests.engine.images.archives import entry, folder, opened, symlink, tar

pytestmark = pytest.mark.kernel


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_text("inside\n")
    (top / "srv/data").mkdir(parents=True)
    (top / "outside").symlink_to(tmp_path / "host")
    (top / "climb").symlink_to("../" * 20 + str(tmp_path / "host"))
    (top / "magic").symlink_to("/proc/self/root")
    (top / "absolute").symlink_to("/srv/data")
    (top / "dangling").symlink_to("nowhere")
    (tmp_path / "host").mkdir()
    (tmp_path / "host/secret").write_text("outside\n")
    descriptor = opened(top)
    yield descriptor
    os.close(descriptor)


def path_of(root: int) -> Path:
    return Path(os.readlink(f"/proc/self/fd/{root}"))


def read(root: int, path: str) -> dict[str, tarfile.TarInfo]:
    parts: list[bytes] = []
    read_archive(root, path, parts.append, container="box")
    with tarfile.open(fileobj=io.BytesIO(b"".join(parts))) as archive:
        return {info.name: info for info in archive}


def put(root: int, path: str, content: bytes, **options: bool) -> None:
    write_archive(root, path, io.BytesIO(content), container="box", **options)


def test_a_path_is_described_as_go_does(root: int) -> None:
    found = stat_path(root, "/etc/passwd", container="box")
    assert (found.name, found.size, found.link_target) == ("passwd", 7, "")
    assert go_mode(stat.S_IFDIR | 0o755) == 2147484141
    assert go_mode(stat.S_IFREG | 0o6755) == 0o755 | 1 << 23 | 1 << 22
    assert go_mode(stat.S_IFCHR | 0o666) == 0o666 | 1 << 26 | 1 << 21
    assert go_mode(stat.S_IFDIR | 0o1777) == 0o777 | 1 << 31 | 1 << 20
    os.utime(path_of(root) / "etc/passwd", ns=(0, 1_500_000_000_120_000_000))
    found = stat_path(root, "/etc/passwd", container="box")
    document = json.loads(base64.b64decode(stat_header(found)))
    assert document == {
        "name": "passwd", "size": 7, "mode": 0o644, "mtime": "2017-07-14T02:40:00.12Z",
        "linkTarget": "",
    }  # fmt: skip


def test_a_final_link_is_described_and_not_followed(root: int) -> None:
    found = stat_path(root, "/absolute", container="box")
    assert stat.S_ISLNK(found.mode)
    assert found.link_target == "/srv/data"
    assert stat_path(root, "/absolute/", container="box").mode & stat.S_IFDIR
    assert stat_path(root, "/dangling", container="box").link_target == "/nowhere"
    assert stat_path(root, "/", container="box").name == "/"


@pytest.mark.parametrize(
    "path",
    ["/nosuch", "etc/nosuch", "/outside/secret", "/climb/secret", "/magic/etc",
     "/absolute/../../../../../host/secret", "/" + "x" * 300],
)  # fmt: skip
def test_what_is_not_in_the_container_is_not_found(root: int, path: str) -> None:
    text = f"Could not find the file {path} in container box"
    for call in (
        lambda: stat_path(root, path, container="box"),
        lambda: read(root, path),
    ):
        with pytest.raises(NotFound) as refused:
            call()
        assert str(refused.value) == text


def test_parents_end_at_the_root(root: int) -> None:
    assert stat_path(root, "/../../../etc/passwd", container="box").size == 7
    assert list(read(root, "../../etc/passwd")) == ["passwd"]


def test_a_tree_comes_out_as_a_tar(root: int) -> None:
    top = path_of(root)
    (top / "etc/deep").mkdir(mode=0o2750)
    os.link(top / "etc/passwd", top / "etc/deep/same")
    (top / "etc/link").symlink_to("/anywhere")
    os.mkfifo(top / "etc/fifo")
    os.setxattr(top / "etc/passwd", "user.note", b"hi")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(top / "etc/socket"))
    found = read(root, "/etc")
    assert set(found) == {"etc", "etc/deep", "etc/deep/same", "etc/fifo", "etc/link", "etc/passwd"}
    assert found["etc/link"].linkname == "/anywhere"
    assert {found["etc/passwd"].islnk(), found["etc/deep/same"].islnk()} == {True, False}
    assert found["etc/fifo"].isfifo()
    assert found["etc/passwd"].pax_headers["SCHILY.xattr.user.note"] == "hi"
    assert set(read(root, "/etc/deep")) == {"deep", "deep/same"}
    assert set(read(root, "/etc/deep/.")) == {".", "./same"}
    assert read(root, "/outside")["outside"].issym()
    assert set(read(root, "/absolute/")) == {"absolute"}


def test_a_tar_goes_in(root: int) -> None:
    top = path_of(root)
    put(root, "/srv/data", tar([folder("conf", 0o700), entry("conf/a", b"1", uid=7, mode=0o640)]))
    found = (top / "srv/data/conf/a").stat()
    assert (found.st_uid, found.st_mode) == (7, stat.S_IFREG | 0o640)
    put(root, "/", gzip.compress(tar([entry("new/deep/file", b"2")])))
    assert (top / "new/deep/file").read_bytes() == b"2"
    put(root, "/absolute", tar([entry("through", b"3")]))
    assert (top / "srv/data/through").read_bytes() == b"3"
    put(root, "/srv", tar([entry("data/over/again", b"4")]))
    put(root, "/srv", tar([symlink("jump", "/etc"), entry("jump/made", b"5")]))
    assert (top / "etc/made").read_bytes() == b"5"


@pytest.mark.parametrize("path", ["/outside", "/climb", "/magic", "/nosuch"])
def test_a_tar_goes_nowhere_else(root: int, tmp_path: Path, path: str) -> None:
    with pytest.raises(NotFound, match=f"Could not find the file {path} in container box"):
        put(root, path, tar([entry("new", b"x")]))
    for name in ("outside", "climb", "magic"):
        with pytest.raises((InvalidRequest, Failure)):
            put(root, "/", tar([entry(f"{name}/new", b"x")]))
    assert os.listdir(tmp_path / "host") == ["secret"]


@pytest.mark.parametrize("path", ["/etc/passwd/", "etc/passwd/.", "/etc/passwd/x"])
def test_a_file_is_no_folder_on_the_way(root: int, path: str) -> None:
    for call in (
        lambda: stat_path(root, path, container="box"),
        lambda: read(root, path),
        lambda: put(root, path, tar([entry("new", b"x")])),
    ):
        with pytest.raises(Failure, match="not a directory"):
            call()


@pytest.mark.parametrize(
    ("path", "name"),
    [("srv/.", "./"), ("./srv/./", "./"), ("srv/", "srv/"), ("absolute/", "absolute/")],
)
def test_what_a_path_ends_in_is_what_the_tar_begins_with(root: int, path: str, name: str) -> None:
    assert next(iter(read(root, path))) == name.rstrip("/")


@pytest.mark.parametrize(
    ("owner", "ids"),
    [
        ("", (7, 8)),
        ("me", (2375, 2376)),
        ("2375", (2375, 2376)),
        ("me:9", (2375, 9)),
        ("5", (5, 0)),
    ],
)
def test_a_tar_may_become_a_users(root: int, owner: str, ids: tuple[int, int]) -> None:
    (path_of(root) / "etc/passwd").write_text("me:x:2375:2376::/:/bin/sh\n")
    member = entry("new", b"x", uid=7, gid=8)
    write_archive(root, "/srv", io.BytesIO(tar([member])), container="box", owner=owner)
    found = (path_of(root) / "srv/new").stat()
    assert (found.st_uid, found.st_gid) == ids


def test_only_a_folder_takes_a_tar(root: int) -> None:
    with pytest.raises(InvalidRequest, match="extraction point is not a directory"):
        put(root, "/etc/passwd", tar([]))


def test_a_folder_does_not_replace_a_file_unasked(root: int) -> None:
    with pytest.raises(Failure) as refused:
        put(root, "/etc", tar([folder("passwd")]), keep_kinds=True)
    assert str(refused.value) == 'cannot overwrite non-directory "passwd" with directory "/etc"'
    with pytest.raises(Failure, match="cannot overwrite directory"):
        put(root, "/srv", tar([entry("data", b"x")]), keep_kinds=True)
    put(root, "/etc", tar([folder("passwd")]))
    assert (path_of(root) / "etc/passwd").is_dir()


def test_a_read_only_root_refuses(root: int) -> None:
    with pytest.raises(InvalidRequest, match="container rootfs is marked read-only"):
        put(root, "/etc", tar([entry("x")]), read_only=True)


def test_a_container_at_rest_has_its_volumes(tmp_path: Path) -> None:
    for name in ("lower/etc", "upper", "work", "volume", "locked", "scratch"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "volume/kept").write_text("v")
    (tmp_path / "single").write_text("s")
    binds = [
        Bind((str(tmp_path / "volume"),), "/srv/volume"),
        Bind((str(tmp_path / "locked"),), "/locked", read_only=True),
        Bind((str(tmp_path / "single"),), "/etc/single"),
    ]

    def within(job: Callable[[int], object]) -> object:
        return on_tree(
            [str(tmp_path / "lower")], str(tmp_path / "upper"), str(tmp_path / "work"), binds, job,
            scratch=str(tmp_path / "scratch"),
        )  # fmt: skip

    before = Path("/proc/self/mountinfo").read_text()
    within(lambda root: put(root, "/srv/volume", tar([entry("new", b"x")])))
    assert (tmp_path / "volume/new").read_bytes() == b"x"
    within(lambda root: put(root, "/etc", tar([entry("conf", b"y")])))
    assert (tmp_path / "upper/etc/conf").read_bytes() == b"y"
    assert within(lambda root: sorted(read(root, "/srv"))) == [
        "srv", "srv/volume", "srv/volume/kept", "srv/volume/new",
    ]  # fmt: skip
    assert within(lambda root: stat_path(root, "/etc/single", container="box").size) == 1
    with pytest.raises(InvalidRequest, match="mounted volume is marked read-only"):
        within(lambda root: put(root, "/locked", tar([entry("x")])))
    assert Path("/proc/self/mountinfo").read_text() == before
    assert os.listdir(tmp_path / "scratch") == []


_SWAPPER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.chdir(sys.argv[1])
while True:
    libc.renameat2(-100, b"swap", -100, b"trap", 2)
"""


def test_a_link_swapped_in_meanwhile_leads_nowhere(root: int, tmp_path: Path) -> None:
    """CVE-2018-15664: a container exchanges a folder and a link while files are copied."""
    top = path_of(root)
    (top / "swap").mkdir()
    (top / "swap/secret").write_text("inside\n")
    (top / "trap").symlink_to(tmp_path / "host")
    assert ctypes.CDLL(None).renameat2 is not None
    swapper = subprocess.Popen([sys.executable, "-I", "-c", _SWAPPER, str(top)])
    try:
        for _ in range(300):
            parts: list[bytes] = []
            try:
                read_archive(root, "/swap/secret", parts.append, container="box")
            except NotFound:
                pass
            else:
                assert b"outside" not in b"".join(parts)
            try:
                put(root, "/swap", tar([folder("."), entry("new", b"x"), entry("secret", b"x")]))
            except (NotFound, InvalidRequest, Failure):
                continue
    finally:
        swapper.kill()
        swapper.wait()
    assert os.listdir(tmp_path / "host") == ["secret"]
    assert (tmp_path / "host/secret").read_text() == "outside\n"
