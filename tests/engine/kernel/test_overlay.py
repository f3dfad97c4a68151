from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.kernel import overlay
from engine.kernel.libc import KernelError

pytestmark = pytest.mark.kernel

# What kernels before 6.7 need is tried on any kernel.
WAYS: list[Callable[..., object]] = [
    lambda lowers, upper, work, job, scratch: overlay.on_overlay(
        lowers, upper, work, job, scratch=scratch
    ),
    overlay._in_own_namespace,
]


@pytest.mark.parametrize("way", WAYS)
def test_layers_are_seen_as_one_tree(tmp_path: Path, way: Callable[..., object]) -> None:
    top, bottom = tmp_path / "a:top", tmp_path / "b,bottom"
    for layer in (top, bottom):
        layer.mkdir()
    (bottom / "gone").write_text("x")
    (bottom / "kept").write_text("x")
    os.mknod(top / "gone", stat.S_IFCHR, os.makedev(0, 0))
    if way is WAYS[0]:
        top, bottom = top.rename(tmp_path / "top"), bottom.rename(tmp_path / "bottom")
    names = way([str(top), str(bottom)], "", "", os.listdir, str(tmp_path))
    assert names == ["kept"]
    assert sorted(os.listdir(tmp_path)) == sorted([top.name, bottom.name])


@pytest.mark.parametrize("way", WAYS)
def test_writes_go_to_the_upper_layer(tmp_path: Path, way: Callable[..., object]) -> None:
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()

    def write(root: int) -> None:
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=root))

    before = Path("/proc/self/mountinfo").read_text()
    lower, upper, work = (str(tmp_path / name) for name in ("lower", "upper", "work"))
    way([lower], upper, work, write, str(tmp_path))
    assert os.listdir(upper) == ["new"]
    assert os.listdir(lower) == []
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.parametrize("way", WAYS)
def test_a_failing_job_is_heard_of(tmp_path: Path, way: Callable[..., object]) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def fail(_: int) -> None:
        raise KeyError("job")

    with pytest.raises(KeyError, match="job"):
        way([str(tmp_path / "a"), str(tmp_path / "b")], "", "", fail, str(tmp_path))
    with pytest.raises((KernelError, OSError)):
        way([str(tmp_path / "a"), str(tmp_path / "none")], "", "", fail, str(tmp_path))
