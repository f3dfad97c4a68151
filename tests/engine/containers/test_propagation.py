"""Mounts that travel between the host and a container."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.containers.propagation import check_propagation, parse_mounts
from engine.errors import Failure
from tests.host import Daemon, Host

MOUNTS = r"""
1 0 8:1 / / rw,relatime - ext4 /dev/x rw
2 1 0:5 / /both rw shared:3 - tmpfs x rw
3 1 0:5 / /down rw master:3 - tmpfs x rw
4 1 0:5 / /with\040blank rw shared:4 - tmpfs x rw
5 2 0:6 / /both/own rw - tmpfs x rw
""".strip()


@pytest.mark.parametrize(
    ("source", "shared", "slave"),
    [
        ("/home", False, False),
        ("/both", True, True),
        ("/both/sub", True, True),
        ("/bothersome", False, False),
        ("/both/own/sub", False, False),
        ("/down", False, True),
        ("/with blank/x", True, True),
    ],
)
def test_where_mounts_travel(source: str, shared: bool, slave: bool) -> None:
    table = parse_mounts(MOUNTS)
    for kind, possible in (("shared", shared), ("slave", slave), ("private", True)):
        for propagation in (kind, f"r{kind}"):
            if possible:
                check_propagation(source, propagation, table)
            else:
                with pytest.raises(Failure, match="but it is not a shared"):
                    check_propagation(source, propagation, table)


@pytest.fixture
def place(host: Host) -> Path:
    """A shared mount, in the host's own mount namespace."""
    folder = host.folder / "travel"
    folder.mkdir()
    host.run("mount", "-t", "tmpfs", "travel", str(folder))
    host.run("mount", "--make-shared", str(folder))
    return folder


def run(engine: Daemon, source: Path, propagation: str, script: str) -> tuple[int, object]:
    mount = {
        "Type": "bind", "Source": str(source), "Target": "/x",
        "BindOptions": {"Propagation": propagation},
    }  # fmt: skip
    body = {
        "Image": "rootfs:/", "Cmd": ["sh", "-c", script],
        "HostConfig": {
            "NetworkMode": "none", "Mounts": [mount], "CapAdd": ["SYS_ADMIN"],
            "SecurityOpt": ["seccomp=unconfined"],
        },
    }  # fmt: skip
    status, answer = engine.call("POST", "/containers/create?name=travel", body)
    assert status == 201, answer
    return engine.call("POST", "/containers/travel/start")


def ended(engine: Daemon) -> object:
    _, answer = engine.call("POST", "/containers/travel/wait")
    assert isinstance(answer, dict)
    return answer["StatusCode"]


@pytest.mark.kernel
def test_a_shared_bind_carries_mounts_to_the_host(host: Host, place: Path) -> None:
    engine = host.daemon()
    script = "mkdir /x/sub && mount -t tmpfs sub /x/sub && echo hello >/x/sub/f"
    assert run(engine, place, "rshared", script)[0] == 204
    assert ended(engine) == 0
    assert host.run("cat", f"{place}/sub/f").stdout == "hello\n"
    host.run("umount", f"{place}/sub")
    engine.remove_containers()
    host.run("umount", str(place))


@pytest.mark.kernel
def test_a_slave_bind_gets_mounts_and_gives_none(host: Host, place: Path) -> None:
    engine = host.daemon()
    script = (
        "mkdir /x/own && mount -t tmpfs own /x/own && echo mine >/x/own/f && echo >/x/ready && "
        "until cat /x/late/f; do sleep 0.05; done"
    )
    assert run(engine, place, "rslave", script)[0] == 204
    limit = time.monotonic() + 100  # an emulated machine is slow
    while host.run("test", "-e", f"{place}/ready", check=False).returncode:
        assert time.monotonic() < limit
    assert host.run("ls", f"{place}/own").stdout == ""
    host.run("mkdir", f"{place}/late")
    host.run("mount", "-t", "tmpfs", "late", f"{place}/late")
    host.run("touch", f"{place}/late/f")
    assert ended(engine) == 0
    engine.remove_containers()
    host.run("umount", f"{place}/late")
    host.run("umount", str(place))


@pytest.mark.kernel
def test_what_cannot_travel_is_refused(host: Host) -> None:
    engine = host.daemon()
    status, answer = run(engine, host.folder, "rshared", "true")
    assert status == 500
    assert isinstance(answer, dict)
    assert answer["message"].endswith("but it is not a shared mount")
    engine.remove_containers()
