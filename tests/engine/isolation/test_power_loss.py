"""What was acknowledged survives a machine that stops between two instructions: the disk as it is
at that moment, without what only the page cache knew. Numbers in parentheses are isolation
requirements (docs/isolation.md)."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from tests.engine.images.archives import docker_archive, entry, tar
from tests.engine.isolation.conftest import Prison
from tests.host import Host

pytestmark = [
    pytest.mark.kernel,
    *(
        pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}")
        for tool in ("mkfs.ext4", "mount")
    ),
]


def mount(host: Host, disk: str, place: str) -> None:
    """commit=300: the file system writes nothing of its own accord while the test looks."""
    host.run("mount", "-o", "loop,commit=300", disk, place)


def unmounted(host: Host, place: str) -> None:
    """What is killed lets go of its files in the kernel's own time."""
    end = time.monotonic() + 100  # an emulated machine is slow
    while host.run("umount", place, check=False).returncode:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_was_acknowledged_is_there_after_a_power_loss(host: Host) -> None:
    """(80, 81): images, names, volumes, networks and exit codes, on a journalling disk that is
    copied right after each answer: dockerd loses images and new names."""
    data = host.folder / "engine/data"
    data.mkdir(parents=True)
    disks = [str(host.folder / name) for name in ("disk", "copy")]
    with open(disks[0], "wb") as disk:
        disk.truncate(192 << 20)
    host.run("mkfs.ext4", "-q", disks[0])
    mount(host, disks[0], str(data))
    data.chmod(0o710)
    prison = Prison(host, daemon := host.daemon())

    prison.finish("sh", "-c", "exit 7")
    assert daemon.call("POST", "/containers/cell0/rename?name=renamed") == (204, None)
    assert daemon.call("POST", "/volumes/create", {"Name": "volume"})[0] == 201
    assert daemon.call("POST", "/networks/create", {"Name": "network"})[0] == 201
    layer = tar([entry(f"file{n}", os.urandom(20_000)) for n in range(50)])
    assert "errorDetail" not in prison.load(docker_archive([layer], ["box:1"]))
    saved = prison.raw("GET", "/images/box:1/get")
    # The name of this container is the last that is told, right before the end.
    prison.create("true", image="box:1")
    assert daemon.call("POST", "/containers/cell1/rename?name=last") == (204, None)
    host.run("cp", "--sparse=always", *disks)

    daemon.kill()
    unmounted(host, str(data))
    mount(host, disks[1], str(data))
    prison.daemon = daemon = host.daemon()
    status, found = daemon.call("GET", "/containers/renamed/json")
    assert status == 200, found
    assert isinstance(found, dict)
    assert found["State"]["ExitCode"] == 7
    assert daemon.call("GET", "/containers/last/json")[0] == 200
    assert daemon.call("GET", "/volumes/volume")[0] == 200
    assert daemon.call("GET", "/networks/network")[0] == 200
    assert prison.raw("GET", "/images/box:1/get") == saved
    prison.clear()
    assert daemon.call("DELETE", "/networks/network")[0] == 204
    assert daemon.stop() == 0
    host.daemons.clear()
    unmounted(host, str(data))
