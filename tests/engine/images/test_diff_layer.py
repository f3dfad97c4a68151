"""What was changed in an overlay comes back as a layer with the same effect."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.images.diff_layer import drop_mount_points, has_changes, pack_changes
from engine.images.tar_reader import TarReader
from engine.images.unpack import unpack_layer
from engine.kernel.overlay import on_overlay

pytestmark = pytest.mark.kernel


class Bytes:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def read(self, size: int, /) -> bytes:
        taken, self.content = self.content[:size], self.content[size:]
        return taken


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("lower", "upper", "work", "layer", "scratch"):
        (tmp_path / name).mkdir(mode=0o755)
    lower = tmp_path / "lower"
    (lower / "etc").mkdir()
    (lower / "etc/kept").write_text("kept")
    (lower / "etc/gone").write_text("gone")
    (lower / "replaced").mkdir()
    (lower / "replaced/old").write_text("old")
    return tmp_path


def changed(place: Path, change: Callable[[str], None]) -> bytes:
    """The layer of what `change` did at the root that it is given."""
    lowers = [str(place / "lower")]
    upper, work = str(place / "upper"), str(place / "work")

    def job(root: int) -> None:
        change(f"/proc/self/fd/{root}")

    on_overlay(lowers, upper, work, job, scratch=str(place / "scratch"))
    pieces: list[bytes] = []
    descriptor = os.open(upper, os.O_RDONLY | os.O_DIRECTORY)
    try:
        pack_changes(descriptor, pieces.append)
    finally:
        os.close(descriptor)
    return b"".join(pieces)


def listing(place: Path, top: str) -> dict[str, str]:
    """Path -> content, through an overlay of `top` over the lower directory."""
    found: dict[str, str] = {}

    def job(root: int) -> None:
        base = f"/proc/self/fd/{root}"
        for folder, _, files in os.walk(base):
            for name in files:
                path = Path(folder) / name
                found[str(path.relative_to(base))] = path.read_text()

    on_overlay([str(place / top), str(place / "lower")], "", "", job, scratch=str(place))
    return found


def test_a_layer_has_the_effect_of_the_changes(place: Path) -> None:
    def change(root: str) -> None:
        os.unlink(f"{root}/etc/gone")
        os.unlink(f"{root}/replaced/old")
        os.rmdir(f"{root}/replaced")
        os.mkdir(f"{root}/replaced")
        Path(f"{root}/replaced/new").write_text("new")
        Path(f"{root}/linked").write_text("twice")
        os.link(f"{root}/linked", f"{root}/again")

    tar = changed(place, change)
    root = os.open(place / "layer", os.O_RDONLY | os.O_DIRECTORY)
    try:
        unpack_layer(TarReader(Bytes(tar)), root)
    finally:
        os.close(root)
    expected = {"etc/kept": "kept", "replaced/new": "new", "linked": "twice", "again": "twice"}
    assert listing(place, "upper") == expected
    assert listing(place, "layer") == expected
    assert (place / "layer/again").stat().st_nlink == 2
    assert stat.S_ISCHR((place / "layer/etc/gone").lstat().st_mode)


def test_a_change_undone_leaves_a_whiteout_only(place: Path) -> None:
    tar = changed(place, lambda root: os.unlink(f"{root}/etc/gone"))
    assert [member.name for member in TarReader(Bytes(tar))] == ["etc/", "etc/.wh.gone"]


def test_places_to_mount_on_are_no_changes(place: Path) -> None:
    def change(root: str) -> None:
        for folder in ("proc", "dev", "cache/below"):
            os.makedirs(f"{root}/{folder}")
        Path(f"{root}/etc/hosts").touch()
        os.symlink("/proc/mounts", f"{root}/etc/mtab")

    changed(place, change)
    upper = os.open(place / "upper", os.O_RDONLY | os.O_DIRECTORY)
    try:
        targets = ("/proc", "/dev", "/etc/hosts", "/etc/mtab", "/cache/below")
        drop_mount_points(upper, [str(place / "lower")], targets)
        assert not has_changes(upper)
    finally:
        os.close(upper)


def test_what_a_user_put_at_a_place_to_mount_on_stays(place: Path) -> None:
    def change(root: str) -> None:
        os.mkdir(f"{root}/dev")
        Path(f"{root}/dev/made").write_text("x")
        Path(f"{root}/etc/hosts").write_text("mine")
        os.symlink("/my/mounts", f"{root}/etc/mtab")

    changed(place, change)
    upper = os.open(place / "upper", os.O_RDONLY | os.O_DIRECTORY)
    try:
        drop_mount_points(upper, [str(place / "lower")], ("/dev", "/etc/hosts", "/etc/mtab"))
    finally:
        os.close(upper)
    assert (place / "upper/dev/made").exists()
    assert (place / "upper/etc/hosts").read_text() == "mine"
    assert (place / "upper/etc/mtab").is_symlink()
