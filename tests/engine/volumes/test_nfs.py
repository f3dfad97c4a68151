"""Volumes on a real NFS server: this machine itself, where it is one."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.volumes.mounted import mount_filesystem, unmount
from engine.volumes.options import parse_source

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(
        shutil.which("exportfs") is None or not Path("/proc/fs/nfsd/threads").exists(),
        reason="no NFS server runs here (Debian: nfs-kernel-server)",
    ),
]


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "share"
    folder.mkdir(mode=0o777)
    (folder / "file").write_text("from the server")
    client = f"127.0.0.1:{folder}"
    options = "rw,fsid=77,no_root_squash,insecure,no_subtree_check"
    subprocess.run(["exportfs", "-o", options, client], check=True)
    yield folder
    subprocess.run(["exportfs", "-u", client], check=True)


@pytest.mark.parametrize(
    ("kind", "options", "version"),
    [
        ("nfs", "addr=127.0.0.1,rw,vers=4.2,soft", "4.2"),
        ("nfs", "addr=localhost,nfsvers=4", "4.0"),
        ("nfs", "addr=127.0.0.1,vers=3,nolock", "3"),
        ("nfs4", "addr=127.0.0.1", "4.0"),
        ("nfs4", "addr=127.0.0.1,vers=4.1", "4.1"),
    ],
)
def test_options_of_a_share_reach_the_kernel(
    share: Path, tmp_path: Path, kind: str, options: str, version: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    asked = {"type": kind, "o": options, "device": f":{share}"}
    wanted = parse_source("data", str(place), asked).file_system
    assert wanted is not None
    mount_filesystem(wanted, str(place))
    try:
        assert (place / "file").read_text() == "from the server"
        (place / "back").write_text("from the client")
        (line,) = [x for x in Path("/proc/mounts").read_text().splitlines() if f" {place} " in x]
        assert f",vers={version}," in line
    finally:
        unmount(str(place))
    assert (share / "back").read_text() == "from the client"


def test_a_share_that_is_not_there_is_told_by_its_name(share: Path, tmp_path: Path) -> None:
    asked = {"type": "nfs", "o": "addr=127.0.0.1,vers=4.2", "device": f":{share}/nosuch"}
    wanted = parse_source("data", str(tmp_path), asked).file_system
    assert wanted is not None
    with pytest.raises(OSError, match="Couldn't follow remote path"):
        mount_filesystem(wanted, str(tmp_path))
