"""Paths of containers and images that lead elsewhere, also while they are being walked. Numbers
in parentheses are isolation requirements (docs/isolation.md)."""

from __future__ import annotations

import http.client
import io
import lzma
import os
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.engine.images.archives import entry, folder, node, symlink, tar
from tests.engine.isolation.conftest import USR, Prison, system, words

pytestmark = pytest.mark.kernel

PYTHON = "/usr/bin/python3"

# Exchanges two names as fast as it can: what is looked at is no longer what is used.
SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
os.chdir(sys.argv[1])
print("ready", flush=True)
while True:
    libc.renameat2(-100, b"swap", -100, b"trap", 2)
"""


def swapper(prison: Prison, place: str, target: str, **options: object) -> str:
    """A container that exchanges the folder `swap` and the link `trap` to `target` in `place`."""
    name = prison.run("sleep", "1000", **options)
    make = (
        f"mkdir -p {place}/swap/sub; ln -s {target} {place}/trap; echo inside > {place}/swap/secret"
    )
    assert prison.execute(name, "sh", "-c", make) == (0, b"")
    body = {"Cmd": [PYTHON, "-I", "-S", "-c", SWAP, place]}
    _, made = prison.daemon.call("POST", f"/containers/{name}/exec", body)
    assert isinstance(made, dict)
    detached = {"Detach": True}
    assert prison.daemon.call("POST", f"/exec/{made['Id']}/start", detached)[0] == 200
    return name


def test_a_mount_target_swapped_for_a_link_leads_nowhere(prison: Prison, outside: Path) -> None:
    """(37, 38): CVE-2021-30465: the target of a mount lies in a volume that another container
    changes meanwhile."""
    swapper(prison, "/v", f"../../../../../../../..{outside}", Binds=["raced:/v"])
    source = prison.host.folder / "source"
    source.mkdir()
    (source / "mark").touch()
    started = 0
    for number in range(20):
        binds = ["raced:/v", f"{source}:/v/swap/new{number}"]
        victim = prison.create("sleep", "1000", Binds=binds)
        status, said = prison.start(victim)
        assert status in (204, 400, 500), said
        if status == 204:
            started += 1
            # Where it came to lie is the attacker's choice, but it is in the container.
            table = prison.execute(victim, "grep", f"new{number} ", "/proc/self/mountinfo")
            assert table[0] == 0, table
        assert sorted(os.listdir(outside)) == ["folder", "secret"]
    assert started  # or nothing was tried
    assert str(outside) not in Path(f"/proc/{prison.host.pid}/mountinfo").read_text()


@pytest.mark.parametrize("running", [True, False])
def test_copies_go_nowhere_else(prison: Prison, outside: Path, running: bool) -> None:
    """(42): by absolute paths, parents and the links of proc; and links of the container's own."""
    secret = outside / "secret"
    start = prison.run if running else prison.create
    name = start("sleep", "1000", image=system(
        prison,
        symlink("absolute", str(outside)), symlink("climbing", "../" * 20 + str(outside)),
        symlink("magic", "/proc/1/root"), symlink("own", "/proc/self/root"),
    ), Binds=USR)  # fmt: skip
    hostile = tar([entry("new", b"x")])
    for place in (
        f"{outside}", "../" * 20 + str(outside), f"/proc/1/root{outside}",
        f"/proc/self/root{outside}", "/absolute", "/climbing", f"/magic{outside}",
        f"/own{outside}", f"/proc/self/fd/3{outside}", f"/usr/../..{outside}",
    ):  # fmt: skip
        for path in (place, f"{place}/secret", f"{place}/./secret", f"{place}/"):
            status, raw = prison.raw("GET", f"/containers/{name}/archive?path={quote(path)}")
            if status == 200:  # a link comes as a link
                with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
                    assert all(info.issym() for info in archive), path
            else:
                assert status == 404, raw
            assert b"outside\n" not in raw
        status, raw = prison.raw("PUT", f"/containers/{name}/archive?path={quote(place)}", hostile)
        assert status == 404, (place, raw)
    assert secret.read_text() == "outside\n"


def test_copies_are_not_held_up_by_what_they_find(prison: Prison) -> None:
    """(42): fifos that nobody writes to, devices that never end, sockets."""
    nodes = [
        node("traps/fifo", tarfile.FIFOTYPE),
        node("traps/zero", tarfile.CHRTYPE, 1, 5, 0o666),
        node("traps/disk", tarfile.BLKTYPE, 7, 0, 0o666),
        entry("traps/file", b"x"),
    ]
    name = prison.run("sleep", "1000", image=system(prison, folder("traps"), *nodes), Binds=USR)
    for place in ("/traps", "/traps/fifo", "/traps/zero", "/traps/disk"):
        status, raw = prison.raw("GET", f"/containers/{name}/archive?path={place}")
        assert status == 200
        with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
            kinds = {info.name: info.type for info in archive}
        assert kinds.get("traps/file", tarfile.REGTYPE) == tarfile.REGTYPE
        assert set(kinds.values()) <= {
            tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.REGTYPE, tarfile.DIRTYPE,
        }  # fmt: skip
        assert prison.raw("HEAD", f"/containers/{name}/archive?path={place}")[0] == 200
    onto = tar([entry("fifo", b"over"), entry("zero", b"over")])
    assert prison.raw("PUT", f"/containers/{name}/archive?path=/traps", onto)[0] == 200
    assert prison.execute(name, "cat", "/traps/fifo", "/traps/zero") == (0, b"overover")


def test_a_link_swapped_in_while_files_are_copied_leads_nowhere(
    prison: Prison, outside: Path
) -> None:
    """(42): CVE-2018-15664, with a container that does the swapping itself."""
    name = swapper(prison, "/srv", "../" * 20 + f"proc/1/root{outside}")
    hostile = tar([entry("new", b"x"), entry("secret", b"x")])
    for _ in range(60):
        try:
            status, raw = prison.raw("GET", f"/containers/{name}/archive?path=/srv/swap/secret")
        except http.client.IncompleteRead as broken:  # found, and gone before it was read
            status, raw = 404, broken.partial
        assert status in (200, 404), raw
        assert b"outside\n" not in raw
        status, raw = prison.raw("PUT", f"/containers/{name}/archive?path=/srv/swap", hostile)
        assert status < 500, raw


def test_copies_run_no_program_of_the_container(prison: Prison) -> None:
    """(43): CVE-2019-14271, CVE-2026-41567: neither its decompressors nor its libraries."""
    spy = entry("x", b"#!/bin/sh\ntouch /ran\nexit 1\n", mode=0o755)[1]
    names = ("xz", "unxz", "unpigz", "pigz", "gzip", "zstd", "tar", "unlzma", "python3", "sh")
    programs = [entry(f"usr/local/bin/{name}", spy, mode=0o755) for name in names]
    library = entry("usr/local/lib/libnss_files.so.2", b"no library", mode=0o755)
    name = prison.run("sleep", "1000")
    path = f"/containers/{name}/archive?path=/"
    assert prison.raw("PUT", path, tar([*programs, library]))[0] == 200
    assert prison.raw("PUT", path, lzma.compress(tar([entry("packed", b"x")])))[0] == 200
    assert prison.raw("GET", f"/containers/{name}/archive?path=/usr/local")[0] == 200
    assert prison.daemon.call("GET", f"/containers/{name}/changes")[0] == 200
    assert prison.execute(name, "/bin/cat", "/packed") == (0, b"x")
    assert prison.execute(name, "/bin/ls", "/ran")[0] == 2


@pytest.mark.parametrize("where", ["root", "volume"])
def test_what_is_read_only_takes_no_copy(prison: Prison, where: str) -> None:
    """(42)"""
    options = {"ReadonlyRootfs": True} if where == "root" else {"Binds": ["locked:/locked:ro"]}
    name = prison.run("sleep", "1000", **options)
    place = "/etc" if where == "root" else "/locked"
    path = f"/containers/{name}/archive?path={place}"
    status, raw = prison.raw("PUT", path, tar([entry("new", b"x")]))
    assert status == 400
    assert "read-only" in words(raw)


@pytest.mark.parametrize("name", ["etc", "etc/hosts", "dev", "proc", "sys", "dev/null",
                                  "dev/console", "etc/resolv.conf", "tmp"])  # fmt: skip
@pytest.mark.parametrize("climbs", [True, False])
def test_an_image_with_a_link_where_the_engine_mounts(
    prison: Prison, outside: Path, name: str, climbs: bool
) -> None:
    """(41): it is mounted in the container, or the start is refused; never on the host."""
    target = "../" * 12 + str(outside) if climbs else str(outside)
    image = system(prison, symlink(name, target), without=[name])
    cell = prison.create("/bin/cat", "/proc/self/mountinfo", image=image, Binds=USR, Tty=False)
    status, said = prison.start(cell)
    assert status in (204, 400, 500), said
    if status == 204:
        prison.daemon.call("POST", f"/containers/{cell}/wait")
    assert str(outside) not in Path(f"/proc/{prison.host.pid}/mountinfo").read_text()


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "bind", "Source": "/tmp", "Target": target}
        for target in ("/", "relative", "/..", "/a/..", "/proc", "/proc/sys", "/proc/1/ns", "")
    ]
    + [
        {"Type": "bind", "Source": source, "Target": "/a"}
        for source in ("", "relative", "../up", "/nosuch/folder")
    ]
    + [{"Type": "volume", "Source": "../../etc", "Target": "/a"}],
    ids=str,
)
def test_mounts_that_could_only_do_harm(prison: Prison, mount: dict[str, str]) -> None:
    """(39)"""
    body = {"Image": "rootfs:/", "Cmd": ["true"], "HostConfig": {"Mounts": [mount]}}
    prison.refused("POST", "/containers/create", body)
    assert prison.daemon.call("GET", "/containers/json?all=1") == (200, [])
