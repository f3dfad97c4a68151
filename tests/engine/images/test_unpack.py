"""What a hostile tar may try: 16 vectors and more. Outside of the root nothing may change."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidRequest
from engine.images.layers import remove_directory
from engine.images.tar_reader import TarReader
from engine.images.unpack import OPAQUE, Unpacked, unpack_archive, unpack_layer
from tests.engine.images.archives import (
    Entry,
    entry,
    folder,
    hardlink,
    in_overlay,
    node,
    opened,
    symlink,
    tar,
    tree,
)

pytestmark = pytest.mark.kernel


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside/folder").mkdir(parents=True)
    (tmp_path / "outside/secret").write_text("secret")
    (tmp_path / "outside/secret").chmod(0o600)
    made = tmp_path / "root"
    made.mkdir()
    return made


def unpack(entries: list[Entry] | bytes, root: Path, *, as_layer: bool = True) -> Unpacked:
    content = entries if isinstance(entries, bytes) else tar(entries)
    descriptor = opened(root)
    try:
        reader = TarReader(io.BytesIO(content))
        return unpack_layer(reader, descriptor) if as_layer else unpack_archive(reader, descriptor)
    finally:
        os.close(descriptor)


def state(folder: Path) -> list[tuple[str, int, int, int, int, bytes]]:
    """All that could change in a tree."""
    found = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found.append(
            (str(path), status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, content)
        )
    return found


def _vectors(outside: str) -> Iterator[tuple[str, list[Entry]]]:
    climb = "../" * 20
    yield "parent", [entry("../outside/new", b"x")]
    yield "parent in the middle", [entry("a/../../outside/new", b"x")]
    yield "many parents", [entry(f"{climb}{outside}/new", b"x")]
    yield "absolute", [entry(f"{outside}/new", b"x")]
    yield "through an absolute link", [symlink("l", outside), entry("l/new", b"x")]
    yield "through a relative link", [symlink("l", "../outside"), entry("l/new", b"x")]
    yield "through a climbing link", [symlink("l", climb + outside), entry("l/secret", b"x")]
    yield "through a chain", [symlink("a", ".."), symlink("b", "a/outside"), entry("b/new", b"x")]
    yield "onto a link", [symlink("l", f"{outside}/secret"), entry("l", b"x")]
    yield "folder over a link", [symlink("l", f"{outside}/folder"), folder("l", 0o777, uid=1000)]
    yield "hard link outside", [hardlink("h", f"{outside}/secret"), entry("h", b"x", mode=0o777)]
    yield "hard link by parents", [hardlink("h", f"{climb}{outside}/secret"), entry("h", b"x")]
    yield (
        "hard link through a link",
        [symlink("l", outside), hardlink("h", "l/secret"), entry("h", b"x")],
    )
    yield "hard link to a link", [symlink("l", f"{outside}/secret"), hardlink("h", "l"),
                                  entry("h", b"x", mode=0o777)]  # fmt: skip
    yield "whiteout outside", [entry("../outside/.wh.secret")]
    yield "whiteout of dots", [entry("a/.wh..")]
    yield "whiteout of two dots", [entry("a/.wh...")]
    yield "empty whiteout", [entry("a/.wh.")]
    yield "whiteout through a link", [symlink("l", outside), entry("l/.wh.secret")]
    yield "opaque through a link", [symlink("l", outside), entry("l/.wh..wh..opq")]
    yield "the root as a link", [symlink(".", outside), entry("new", b"x")]
    yield "the root as a file", [entry("./", b"x")]
    yield "magic link", [symlink("l", "/proc/self/root"), entry(f"l{outside}/new", b"x")]
    yield "magic descriptor", [symlink("l", "/proc/self/fd/3/.."), entry("l/outside/new", b"x")]
    yield "link loop", [symlink("a", "b"), symlink("b", "a"), entry("a/new", b"x")]
    yield (
        # CVE-2025-4517: a path whose expansion is longer than PATH_MAX
        "long chain",
        [*(symlink(f"{'d/' * n}l", "d" * 1) for n in range(1)),
         *(folder("/".join(["x" * 200] * n)) for n in range(1, 25)),
         symlink("e", "/".join(["x" * 200] * 19)), symlink("f", "e/" + climb + outside),
         entry("f/new", b"x")],
    )  # fmt: skip
    yield "device, then a file over it", [node("d", tarfile.CHRTYPE, 1, 3), entry("d", b"x")]
    yield "fifo, then a file over it", [node("f", tarfile.FIFOTYPE), entry("f", b"x")]
    yield "setuid through a link", [symlink("l", f"{outside}/secret"), hardlink("m", "l"),
                                    folder("m", 0o4777)]  # fmt: skip


@pytest.mark.parametrize("as_layer", [True, False])
@pytest.mark.parametrize("vector", [name for name, _ in _vectors("/x")])
def test_nothing_outside_changes(root: Path, vector: str, as_layer: bool) -> None:
    outside = root.parent / "outside"
    before = state(outside)
    with contextlib.suppress(InvalidRequest):
        unpack(dict(_vectors(str(outside)))[vector], root, as_layer=as_layer)
    assert state(outside) == before
    assert sorted(os.listdir(root.parent)) == ["outside", "root"]


def test_links_inside_are_followed_inside(root: Path) -> None:
    unpack([folder("usr/bin"), symlink("bin", "usr/bin"), symlink("abs", "/usr/bin"),
            entry("bin/tool", b"1"), entry("abs/other", b"2")], root)  # fmt: skip
    assert sorted(os.listdir(root / "usr/bin")) == ["other", "tool"]


def test_absolute_names_are_names_in_the_root(root: Path) -> None:
    unpack([entry("/etc/file", b"x"), entry("./etc//other", b"y")], root)
    assert tree(root) == ["etc", "etc/file", "etc/other"]


def test_what_is_kept_of_an_entry(root: Path) -> None:
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    pax = {
        "SCHILY.xattr.user.note": "hi",
        "SCHILY.xattr.security.capability": capability.decode("latin-1"),
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.trusted.other": "y",
        "SCHILY.xattr.user.overlay.opaque": "y",
        "mtime": "1234567890.123456789",
    }
    info, content = entry("bin/su", b"x", mode=0o4755, uid=1, gid=2)
    info.pax_headers = pax
    unpack([folder("bin", 0o2755, gid=9, mtime=77), (info, content), hardlink("same", "bin/su"),
            symlink("link", "nowhere"), node("null", tarfile.CHRTYPE, 1, 3, 0o666),
            node("disk", tarfile.BLKTYPE, 8, 1), node("pipe", tarfile.FIFOTYPE, mode=0o640),
            folder("./", 0o711, mtime=99)], root)  # fmt: skip
    found = (root / "bin/su").stat()
    assert (found.st_uid, found.st_gid, found.st_mode) == (1, 2, stat.S_IFREG | 0o4755)
    assert found.st_mtime_ns == 1234567890123456789
    assert found.st_ino == (root / "same").stat().st_ino
    attributes = set(os.listxattr(root / "bin/su"))
    assert attributes == {"user.note", "security.capability"}
    folder_found = (root / "bin").stat()
    assert (stat.S_IMODE(folder_found.st_mode), folder_found.st_mtime) == (0o2755, 77)
    assert os.readlink(root / "link") == "nowhere"
    assert (root / "null").stat().st_mode == stat.S_IFCHR | 0o666
    assert (root / "disk").stat().st_rdev == os.makedev(8, 1)
    assert (root / "pipe").stat().st_mode == stat.S_IFIFO | 0o640
    assert (stat.S_IMODE(root.stat().st_mode), root.stat().st_mtime) == (0o711, 99)


def test_later_entries_replace_earlier_ones(root: Path) -> None:
    unpack([entry("a", b"1"), entry("a", b"2"), folder("b"), entry("b/in", b"x"), entry("b", b"3"),
            entry("c", b"x"), folder("c"), entry("c/in", b"x"), symlink("d", "c"), folder("d"),
            entry("d/in", b"4"), hardlink("a", "a")], root)  # fmt: skip
    assert (root / "a").read_bytes() == b"2"
    assert (root / "b").read_bytes() == b"3"
    assert (root / "d/in").read_bytes() == b"4"
    assert (root / "c/in").read_bytes() == b"x"


def test_whiteouts_hide_what_lies_below(root: Path, tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    unpack([folder("etc"), entry("etc/gone", b"x"), entry("etc/kept", b"x"), folder("was/folder"),
            entry("was/folder/file", b"x"), folder("opaque"), entry("opaque/old", b"x"),
            entry("file", b"x"), folder("again"), entry("again/old", b"x")], below)  # fmt: skip
    unpack([entry("etc/.wh.gone"), entry("was/.wh.folder"), entry("opaque/new", b"y"),
            entry("opaque/.wh..wh..opq"), entry(".wh.file"), entry(".wh.again"), folder("again"),
            entry("again/new", b"y"), entry(".wh..wh.plnk", b"aufs"),
            entry(".wh.never")], root)  # fmt: skip
    seen = in_overlay([str(root), str(below)], tmp_path, "find", ".", "-printf", "%P\n").split()
    assert sorted(seen) == [
        "again", "again/new", "etc", "etc/kept", "opaque", "opaque/new", "was",
    ]  # fmt: skip
    assert os.getxattr(root / "opaque", OPAQUE) == b"y"


def test_a_whiteout_does_not_hide_its_own_layer(root: Path, tmp_path: Path) -> None:
    """image-spec, layer.md: "Whiteout files MUST only apply to resources in lower layers"."""
    below = tmp_path / "below"
    below.mkdir()
    unpack([folder("d"), entry("d/old", b"x"), entry("f", b"x")], below)
    unpack([folder("d"), entry("d/new", b"y"), entry(".wh.d"), entry("f", b"y"),
            entry(".wh.f")], root)  # fmt: skip
    seen = in_overlay([str(root), str(below)], tmp_path, "find", ".", "-printf", "%P\n").split()
    assert sorted(seen) == ["d", "d/new", "f"]


def test_in_an_ordinary_archive_whiteouts_are_files(root: Path) -> None:
    unpack([entry(".wh.x", b"just a name")], root, as_layer=False)
    assert (root / ".wh.x").read_bytes() == b"just a name"


def test_a_folder_with_content_is_not_replaced_in_a_container(root: Path) -> None:
    (root / "data/deep").mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="Directory not empty"):
        unpack([entry("data", b"x")], root, as_layer=False)
    unpack([entry("data/deep", b"x")], root, as_layer=False)
    assert (root / "data/deep").read_bytes() == b"x"


def test_deep_paths_are_walked(root: Path) -> None:
    deep = "/".join(["d" * 50] * 300)
    unpack([entry(f"{deep}/file", b"x")], root)
    here = opened(root)
    for _ in range(300):
        below = os.open("d" * 50, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    assert os.listdir(here) == ["file"]
    os.close(here)
    remove_directory(root)
    assert not root.exists()


def test_folders_that_are_not_described_can_be_entered(root: Path) -> None:
    before = os.umask(0o077)  # as the engine has it
    try:
        unpack([entry("deep/er/file", b"x")], root)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((root / name).stat().st_mode) for name in ("deep", "deep/er")] == [
        0o755, 0o755,
    ]  # fmt: skip


def test_a_path_that_is_too_deep_is_refused(root: Path) -> None:
    with pytest.raises(InvalidRequest, match="folders deep"):
        unpack([entry("d/" * 5000 + "f")], root)


def test_a_name_that_is_too_long_is_refused(root: Path) -> None:
    with pytest.raises(InvalidRequest, match="File name too long"):
        unpack([entry("n" * 300)], root)


def test_many_folders_do_not_use_up_the_descriptors(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    unpack([entry(f"d{n}/f", b"") for n in range(1000)], root)
    assert len(os.listdir(root)) == 1000
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_all_styles_of_tar_are_read(root: Path, style: int) -> None:
    name = "d" * 80 + "/" + "n" * 60
    unpack(tar([entry(name, b"x" * 1000, uid=70000), symlink("l", "t" * 90)], style), root)
    assert (root / name).read_bytes() == b"x" * 1000
    assert (root / name).stat().st_uid == 70000


@pytest.mark.parametrize("version", ["gnu", "posix-0.0", "posix-0.1", "posix-1.0"])
def test_sparse_files_stay_sparse(root: Path, tmp_path: Path, version: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as stream:
        for piece in range(20):
            stream.seek((piece + 1) << 20)
            stream.write(b"data%d" % piece)
        stream.truncate(30 << 20)
    style = ["--format=gnu"] if version == "gnu" else [
        "--format=pax", f"--sparse-version={version.removeprefix('posix-')}"]  # fmt: skip
    made = subprocess.run(
        ["tar", "-C", str(source), "-S", *style, "-cf", "-", "."], capture_output=True, check=True
    )
    assert unpack(made.stdout, root).size == 30 << 20
    assert (root / "sparse").read_bytes() == (source / "sparse").read_bytes()
    assert (root / "sparse").stat().st_blocks * 512 < 1 << 20


def test_zeros_become_holes_again(root: Path) -> None:
    """An archive without a word for holes, as those of layers are."""
    content = b"start" + bytes(8 << 20) + b"middle" + bytes(3 << 20)
    assert unpack(tar([entry("z", content)]), root).size == len(content)
    assert (root / "z").read_bytes() == content
    assert (root / "z").stat().st_blocks * 512 < 2 << 20
