from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from engine.errors import Conflict, Failure, InvalidRequest, NotFound, Unsupported
from engine.volumes.operations import Volumes

pytestmark = pytest.mark.kernel


def nobody(_: str) -> Sequence[str]:
    return ()


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[Volumes]:
    opened = await Volumes.open(tmp_path / "volumes")
    yield opened
    await opened.close()


async def test_a_volume_outlives_the_daemon(volumes: Volumes, tmp_path: Path) -> None:
    made = await volumes.create("data", labels={"a": "b"})
    assert made.mountpoint == str(tmp_path / "volumes/data/_data")
    assert stat.S_IMODE(os.stat(made.mountpoint).st_mode) == 0o755
    assert stat.S_IMODE(os.stat(tmp_path / "volumes").st_mode) == 0o700
    (Path(made.mountpoint) / "file").write_text("kept")
    again = await Volumes.open(tmp_path / "volumes")
    assert again.get("data") == made
    assert (Path(again.source(made).path) / "file").read_text() == "kept"
    await again.close()


async def test_what_is_removed_while_sizes_are_asked_for_has_none(volumes: Volumes) -> None:
    made = await volumes.create("data")
    (Path(made.mountpoint) / "file").write_text("12345")
    assert await volumes.size(made) == 5
    await volumes.remove("data", users=nobody)
    assert await volumes.size(made) == 0


async def test_creating_twice_gives_the_first_one(volumes: Volumes) -> None:
    first, second = await asyncio.gather(
        volumes.create("data", labels={"n": "1"}), volumes.create("data", labels={"n": "2"})
    )
    assert first == second
    assert [volume.name for volume in volumes.list()] == ["data"]


async def test_a_volume_without_a_name_is_anonymous(volumes: Volumes) -> None:
    made = await volumes.create()
    assert len(made.name) == 64
    assert made.is_anonymous
    assert not (await volumes.create("named")).is_anonymous


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x", "volume name is too short"),
        ("../x", "includes invalid characters for a local volume name"),
        ("a/b", "If you intended to pass a host directory, use absolute path"),
        (".hidden", "includes invalid characters"),
        ("a\n", "includes invalid characters"),
        ("a" * 256, "includes invalid characters"),
    ],
)
async def test_names_that_are_refused(volumes: Volumes, name: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        await volumes.create(name)


async def test_options_of_the_local_driver(volumes: Volumes, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    bound = await volumes.create(
        "bound", options={"type": "none", "o": "bind,ro", "device": str(place)}
    )
    source = volumes.source(bound)
    assert (source.path, source.options) == (str(place), ("ro",))
    place.rmdir()
    with pytest.raises(Failure, match="no such file or directory"):
        volumes.source(bound)
    for options, kind, text in (
        ({"size": "1g"}, InvalidRequest, "quota size requested but no quota support"),
        ({"size": "big"}, InvalidRequest, "invalid size: 'big'"),
        ({"Type": "tmpfs"}, InvalidRequest, 'invalid option: "Type"'),
        ({"o": "bind", "device": "/x"}, InvalidRequest, 'missing required option: "type"'),
        ({"type": "cifs", "device": "//host:445/x", "o": "x"}, InvalidRequest, "port not allowed"),
        ({"type": "none", "o": "bind"}, InvalidRequest, 'missing required option: "device"'),
        ({"type": "tmpfs"}, InvalidRequest, 'missing required option: "device"'),
        ({"device": "/dev/sda1"}, InvalidRequest, 'missing required option: "type"'),
        ({"type": "", "o": "bind", "device": "x"}, InvalidRequest, "not an absolute path"),
        ({"type": "", "o": "bind,noexec", "device": "/x"}, Unsupported, "noexec"),
    ):
        with pytest.raises(kind, match=text):
            await volumes.create("odd", options=options)
    # What is there, but empty, is missed at the mount only, as in Docker.
    for options, said in (
        ({"type": "tmpfs", "device": ""}, "missing device in volume options"),
        ({"type": "", "device": "tmpfs"}, "no such device"),
        ({"type": "none", "device": "/"}, "no such device"),
    ):
        odd = await volumes.create("odd", options=options)
        with pytest.raises(Failure, match=said):
            await volumes.mount_for("c1", ["odd"])
        await volumes.remove("odd", users=nobody)
    odd = await volumes.create("odd", options={"type": "", "device": "", "o": "", "size": "0"})
    assert volumes.source(odd).path == odd.mountpoint
    await volumes.remove("odd", users=nobody)
    with pytest.raises(NotFound, match='plugin "rexray" not found'):
        await volumes.create("odd", driver="rexray")
    assert [volume.name for volume in volumes.list()] == ["bound"]


async def test_a_volume_in_use_stays(volumes: Volumes) -> None:
    await volumes.create("data")
    with pytest.raises(Conflict, match=r"^remove data: volume is in use - \[c1, c2\]$"):
        await volumes.remove("data", force=True, users=lambda _: ["c1", "c2"])
    assert await volumes.remove("data", users=nobody)
    with pytest.raises(NotFound, match=r"^get data: no such volume$"):
        volumes.get("data")
    with pytest.raises(NotFound):
        await volumes.remove("data", users=nobody)
    assert not await volumes.remove("data", force=True, users=nobody)


async def test_removal_follows_no_link_and_takes_any_depth(
    volumes: Volumes, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    made = await volumes.create("data")
    content = Path(made.mountpoint)
    (content / "link").symlink_to(outside)
    here = os.open(content, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d" * 20, dir_fd=here)
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    await volumes.remove("data", users=nobody)
    assert os.listdir(tmp_path / "volumes") == []
    assert (outside / "kept").exists()


async def test_prune_takes_anonymous_ones_or_all(volumes: Volumes) -> None:
    anonymous, used = await volumes.create(), await volumes.create()
    await volumes.create("named")
    (Path(anonymous.mountpoint) / "file").write_bytes(b"x" * 5000)
    users = {used.name: ["c"]}
    pruned = await volumes.prune(lambda _: True, users=lambda name: users.get(name, []))
    assert pruned.names == (anonymous.name,)
    assert pruned.reclaimed >= 5000
    pruned = await volumes.prune(lambda _: True, all_=True, users=lambda name: users.get(name, []))
    assert pruned.names == ("named",)
    assert volumes.list() == (used,)


async def test_prune_leaves_what_says_where_data_is(volumes: Volumes) -> None:
    """Without the volume nobody would know what to mount."""
    options = {"type": "nfs", "o": "addr=192.0.2.1", "device": ":/data"}
    remote = await volumes.create("remote", options=options)
    pruned = await volumes.prune(lambda _: True, all_=True, users=lambda _: [])
    assert (pruned.names, volumes.list()) == ((), (remote,))


async def test_the_next_start_clears_what_a_crash_left(volumes: Volumes, tmp_path: Path) -> None:
    await volumes.create("data")
    (tmp_path / "volumes/.trash-1234/_data/deep").mkdir(parents=True)
    (tmp_path / "volumes/.new-1234").mkdir()
    (tmp_path / "volumes/data/volume.json").write_text('{"half')
    again = await Volumes.open(tmp_path / "volumes")
    assert [volume.name for volume in again.list()] == ["data"]  # its content is somebody's data
    assert os.listdir(tmp_path / "volumes") == ["data"]
    await again.close()


# ---- copy-up


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    layer = tmp_path / "layer"
    (layer / "srv/data/deep").mkdir(parents=True)
    return layer


async def test_an_empty_volume_takes_the_images_content(volumes: Volumes, layer: Path) -> None:
    data = layer / "srv/data"
    (data / "file").write_bytes(b"x" * 10)
    os.chown(data / "file", 1000, 1001)
    os.chmod(data / "file", 0o4751)
    os.setxattr(data / "file", "user.note", b"hi")
    capability = bytes.fromhex("0100000200040000000000000000000000000000")
    (data / "tool").write_bytes(b"")
    os.setxattr(data / "tool", "security.capability", capability)
    os.link(data / "file", data / "deep/same")
    (data / "link").symlink_to("/etc/passwd")
    os.lchown(data / "link", 5, 6)
    os.mkfifo(data / "fifo", 0o620)
    os.mknod(data / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(data / "socket"))
    with open(data / "sparse", "wb") as sparse:
        sparse.seek(10 << 20)
        sparse.write(b"end")
    os.chmod(data / "deep", 0o2770)
    os.chown(data, 70, 71)
    os.chmod(data, 0o750)
    os.utime(data / "file", ns=(1, 12345678901))
    os.utime(data, ns=(1, 23456789012))

    volume = await volumes.create("data")
    assert await volumes.copy_up(volume, [str(layer)], "/srv/data")
    copied = Path(volume.mountpoint)
    assert sorted(os.listdir(copied)) == [
        "deep", "fifo", "file", "link", "null", "sparse", "tool",
    ]  # fmt: skip
    found = (copied / "file").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1000, 1001, 0o4751)
    assert found.st_mtime_ns == 12345678901
    assert found.st_ino == (copied / "deep/same").stat().st_ino
    assert os.getxattr(copied / "file", "user.note") == b"hi"
    assert os.getxattr(copied / "tool", "security.capability")[:20] == capability
    assert os.readlink(copied / "link") == "/etc/passwd"
    assert (copied / "link").lstat().st_uid == 5
    assert (copied / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((copied / "null").stat().st_mode) == stat.S_IMODE(
        (data / "null").stat().st_mode
    )
    assert stat.S_ISFIFO((copied / "fifo").stat().st_mode)
    assert (copied / "sparse").stat().st_size == (10 << 20) + 3
    assert (copied / "sparse").stat().st_blocks < 100
    assert stat.S_IMODE((copied / "deep").stat().st_mode) == 0o2770
    found = copied.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (70, 71, 0o750)
    assert found.st_mtime_ns == 23456789012


async def test_copy_up_sees_the_layers_as_the_container_does(
    volumes: Volumes, layer: Path, tmp_path: Path
) -> None:
    (layer / "srv/data/gone").write_text("x")
    (layer / "srv/data/deep/hidden").write_text("x")
    (layer / "srv/data/kept").write_text("x")
    top = tmp_path / "top"
    (top / "srv/data/deep").mkdir(parents=True)
    os.setxattr(top / "srv/data/deep", "trusted.overlay.opaque", b"y")
    os.mknod(top / "srv/data/gone", stat.S_IFCHR, os.makedev(0, 0))
    (top / "srv/data/new").write_text("y")
    volume = await volumes.create("data")
    assert await volumes.copy_up(volume, [str(top), str(layer)], "/srv/data")
    copied = Path(volume.mountpoint)
    assert sorted(os.listdir(copied)) == ["deep", "kept", "new"]
    assert os.listdir(copied / "deep") == []
    assert "trusted.overlay.opaque" not in os.listxattr(copied / "deep")


async def test_a_volume_with_content_is_left_alone(volumes: Volumes, layer: Path) -> None:
    (layer / "srv/data/file").write_text("image")
    volume = await volumes.create("data")
    (Path(volume.mountpoint) / "mine").write_text("x")
    assert not await volumes.copy_up(volume, [str(layer)], "/srv/data")
    assert os.listdir(volume.mountpoint) == ["mine"]


async def test_copy_up_never_leaves_the_image(
    volumes: Volumes, layer: Path, tmp_path: Path
) -> None:
    """A path in the image that is a link leads to a place in the image, or nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (layer / "absolute").symlink_to(outside)
    (layer / "climbing").symlink_to("../../../../../../../../" + str(outside))
    (layer / "inner").symlink_to("/srv/data")
    (layer / "magic").symlink_to("/proc/self/root")
    (layer / "srv/data/file").write_text("x")
    for name in ("absolute", "climbing", "magic", "missing", "srv/data/file"):
        volume = await volumes.create(f"from-{name.replace('/', '-')}")
        assert not await volumes.copy_up(volume, [str(layer)], f"/{name}")
        assert os.listdir(volume.mountpoint) == []
    volume = await volumes.create("inner")
    assert await volumes.copy_up(volume, [str(layer)], "/inner")
    assert sorted(os.listdir(volume.mountpoint)) == ["deep", "file"]


async def test_an_interrupted_copy_is_taken_up_again(volumes: Volumes, layer: Path) -> None:
    (layer / "srv/data/first").write_text("1")
    (layer / "srv/data/second").write_text("2")
    volume = await volumes.create("data")
    content = Path(volume.mountpoint)
    # What a kill -9 leaves in the middle of a copy: the marker, one file done, one half done.
    (content.parent / "copying").touch()
    (content / "first").write_text("1")
    (content / ".pycompose-copy-0123456789abcdef").write_text("")
    assert await volumes.copy_up(volume, [str(layer)], "/srv/data")
    assert sorted(os.listdir(content)) == ["deep", "first", "second"]
    assert not (content.parent / "copying").exists()
    (content / "second").unlink()
    assert not await volumes.copy_up(volume, [str(layer)], "/srv/data")


async def test_an_empty_part_of_a_volume_is_filled(volumes: Volumes, layer: Path) -> None:
    (layer / "srv/data/file").write_text("x")
    volume = await volumes.create("data")
    content = Path(volume.mountpoint)
    (content / "part").mkdir()
    (content / "full").mkdir()
    (content / "full/own").touch()
    (content / "out").symlink_to("/etc")
    assert await volumes.copy_up(volume, [str(layer)], "/srv/data", part="part")
    assert sorted(os.listdir(content / "part")) == ["deep", "file"]
    for part in ("", "full", "out", "missing"):
        assert not await volumes.copy_up(volume, [str(layer)], "/srv/data", part=part)
    assert os.listdir(content / "full") == ["own"]


async def test_a_full_disk_is_said(volumes: Volumes, layer: Path, tmp_path: Path) -> None:
    (layer / "srv/data/large").write_bytes(b"x" * (2 << 20))
    small = tmp_path / "small"
    small.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    assert not libc.mount(b"tmpfs", os.fsencode(small), b"tmpfs", 0, b"size=256k"), (
        ctypes.get_errno()
    )
    try:
        volume = await volumes.create(
            "data", options={"type": "none", "o": "bind", "device": str(small)}
        )
        with pytest.raises(Failure, match=os.strerror(errno.ENOSPC)):
            await volumes.copy_up(volume, [str(layer)], "/srv/data")
        assert sorted(os.listdir(small)) in ([], ["deep"])
    finally:
        assert not libc.umount(os.fsencode(small))
