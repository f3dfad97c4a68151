"""Who a user is, by the layers of a root that nobody has mounted yet."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.runtime.accounts import find_in_layers, find_near
from engine.runtime.users import Identity

WEB = "web:x:33:34:web:/var/www:/bin/sh\n"
Layer = Callable[..., str]


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    def make(passwd: str | None = None, group: str | None = None) -> str:
        place = tmp_path / str(len(os.listdir(tmp_path)))
        (place / "etc").mkdir(parents=True)
        for name, text in (("passwd", passwd), ("group", group)):
            if text is not None:
                (place / "etc" / name).write_text(text)
        return str(place)

    return make


def test_each_file_is_that_of_the_topmost_layer_that_has_it(layer: Layer) -> None:
    layers = [layer(), layer(passwd=WEB), layer(WEB.replace("33", "44"), "mail:x:8:web\n")]
    assert find_in_layers("web", (), layers) == Identity(33, 34, (34, 8), "/var/www")


def test_without_files_a_number_is_good_and_a_name_is_nobody(layer: Layer, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    layers = [layer(), str(tmp_path / "bare")]
    assert find_in_layers("5:6", (), layers) == Identity(5, 6, (6,), "/")
    assert find_in_layers("web", (), layers) is None


@pytest.mark.kernel
def test_a_file_that_was_removed_is_not_looked_for_below(layer: Layer) -> None:
    layers = [layer(), layer(passwd=WEB)]
    os.mknod(f"{layers[0]}/etc/passwd", stat.S_IFCHR, os.makedev(0, 0))
    assert find_in_layers("33", (), layers) == Identity(33, 0, (0,), "/")


@pytest.mark.kernel
@pytest.mark.parametrize("name", ["opaque", "redirect"])
def test_what_only_overlayfs_can_say_is_nobody(layer: Layer, name: str) -> None:
    layers = [layer(), layer(passwd=WEB)]
    os.setxattr(f"{layers[0]}/etc", f"trusted.overlay.{name}", b"y")
    assert find_in_layers("33", (), layers) is None


@pytest.mark.parametrize("part", ["etc", "etc/passwd"])
def test_no_link_is_followed(layer: Layer, tmp_path: Path, part: str) -> None:
    layers = [layer(), layer(passwd=WEB)]
    os.rename(f"{layers[0]}/etc", tmp_path / "moved")
    if part == "etc":
        os.symlink(f"{layers[1]}/etc", f"{layers[0]}/etc")
    else:
        os.mkdir(f"{layers[0]}/etc")
        os.symlink(f"{layers[1]}/etc/passwd", f"{layers[0]}/etc/passwd")
    assert find_in_layers("web", (), layers) is None


def test_what_could_hold_us_up_is_not_opened(layer: Layer) -> None:
    top = layer()
    os.mkfifo(f"{top}/etc/passwd")
    assert find_in_layers("0", (), [top]) is None
    assert find_near("0", (), top) == Identity(0, 0, (0,), "/")  # as if there were none


def test_a_long_file_is_for_somebody_with_time(layer: Layer) -> None:
    top = layer(passwd=WEB + "#" * 70000)
    assert find_in_layers("web", (), [top]) is None
    assert find_near("web", (), top) is None


def test_near_is_what_lies_in_the_root(layer: Layer) -> None:
    top = layer(passwd=WEB, group="mail:x:8:web\n")
    assert find_near("web", (), top) == Identity(33, 34, (34, 8), "/var/www")
    os.rename(f"{top}/etc/passwd", f"{top}/etc/other")
    os.symlink("/etc/other", f"{top}/etc/passwd")  # in the root, as in the container
    assert find_near("web", (), top) == Identity(33, 34, (34, 8), "/var/www")
    assert find_near("web", (), f"{top}/none") is None
