"""Directories that a layer needs and doesn't describe."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import pytest

from engine.images.layers import Layers
from tests.engine.images.archives import Entry, entry, folder, tar

pytestmark = pytest.mark.kernel


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    (tmp_path / "temporary").mkdir()
    made = Layers(tmp_path / "layers", tmp_path / "temporary")
    made.prepare()
    return made


def implied(layers: Layers, name: str, *below: Entry) -> tuple[int, int]:
    """Mode and owner of folder `name` in a layer that holds only a file in it."""
    base = layers.unpack(io.BytesIO(tar(below)), expected=None)
    top = io.BytesIO(tar([entry(f"{name}/file")]))
    made = layers.unpack(top, expected=None, below=[base.path])
    found = (made.path / name).stat()
    return stat.S_IMODE(found.st_mode), found.st_uid


def test_a_shared_folder_stays_what_it_is_below(layers: Layers) -> None:
    assert implied(layers, "tmp", folder("tmp", 0o1777)) == (0o1777, 0)
    assert implied(layers, "secret", folder("secret", 0o700)) == (0o700, 0)


def test_a_layer_below_opens_no_folder_of_a_layer_that_images_share(layers: Layers) -> None:
    assert implied(layers, "usr", folder("usr", 0o777)) == (0o755, 0)
    assert implied(layers, "usr", folder("usr", 0o775)) == (0o755, 0)
    assert implied(layers, "usr", folder("usr", 0o755, uid=1000)) == (0o755, 0)


def test_a_folder_that_is_nowhere_is_open_to_read(layers: Layers) -> None:
    assert implied(layers, "new") == (0o755, 0)
