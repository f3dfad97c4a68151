"""Volumes with file systems of their own, used by real containers."""

import os
from pathlib import Path

import pytest

from engine.containers.model import HostConfig
from engine.errors import EngineError
from tests.engine.containers.conftest import Engine
from tests.engine.images.archives import chunks, entry, tar

pytestmark = pytest.mark.kernel

DATA = HostConfig(binds=("data:/data",))


def overlay_options(engine: Engine) -> dict[str, str]:
    """A file system that keeps what is written to it, on any machine."""
    folders = {name: engine.folder / name for name in ("lower", "upper", "work")}
    for folder in folders.values():
        folder.mkdir()
    said = ",".join(f"{name}dir={folder}" for name, folder in folders.items())
    return {"type": "overlay", "device": "overlay", "o": said}


def is_mounted(engine: Engine, name: str) -> bool:
    return os.path.ismount(engine.volumes.get(name).mountpoint)


async def test_tmpfs_is_shared_while_it_is_used_and_then_gone(engine: Engine) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=7,mode=0750,noexec"}
    await engine.volumes.create("data", options=options)
    assert not is_mounted(engine, "data")
    script = "echo hello > /data/file; sleep 1000"
    first = await engine.run("sh", "-c", script, host=DATA)
    second = await engine.run("sleep", "1000", host=DATA)
    script = (
        "until test -s /data/file; do sleep 0.02; done; cat /data/file; stat -c '%a %u' /data;"
        "grep ' /data ' /proc/mounts"
    )
    code, said = await engine.finish("sh", "-c", script, host=DATA)
    assert code == 0
    assert said.startswith("hello\n750 7\n")
    assert "noexec" in said
    assert "size=1024k" in said
    await engine.containers.kill(first)
    assert is_mounted(engine, "data")
    # A new daemon knows who uses it.
    await engine.stop()
    await engine.open()
    assert is_mounted(engine, "data")
    await engine.containers.kill(second)
    assert not is_mounted(engine, "data")
    _, said = await engine.finish("ls", "-A", "/data", host=DATA)
    assert said == ""
    assert list(Path(engine.volumes.get("data").mountpoint).iterdir()) == []


async def test_names_resolve_in_what_is_mounted_at_etc(engine: Engine) -> None:
    for host in (HostConfig(binds=("data:/etc",)), HostConfig(tmpfs={"/etc": ""})):
        code, said = await engine.finish("cat", "/etc/hosts", "/etc/resolv.conf", host=host)
        assert code == 0
        assert "localhost" in said
        assert "nameserver" in said


async def test_a_tmpfs_is_as_open_as_the_folder_that_it_covers(engine: Engine) -> None:
    host = HostConfig(tmpfs={"/root": "", "/etc": "", "/tmp": "mode=0750", "/new/one": ""})
    _, said = await engine.finish(
        "stat", "-c", "%a", "/root", "/etc", "/tmp", "/new/one", host=host
    )
    assert said.split() == ["700", "755", "750", "1777"]


async def test_what_the_kernel_cannot_mount_is_said_at_the_start(engine: Engine) -> None:
    wrong = {
        "bogus": ({"type": "tmpfs", "device": "tmpfs", "o": "bogus=1"}, "data: bogus=1: .*bogus"),
        "none": ({"type": "nosuchfs", "device": "x"}, "no such device"),
    }
    for name, (options, words) in wrong.items():
        await engine.volumes.create(name, options=options)
        host = HostConfig(binds=(f"{name}:/data",))
        identifier = await engine.create("true", host=host)
        with pytest.raises(EngineError, match=f"failed to mount local volume: .*{words}"):
            await engine.containers.start(identifier)
        assert not is_mounted(engine, name)


async def test_file_system_of_a_daemon_that_died_goes_with_its_last_container(
    engine: Engine,
) -> None:
    await engine.volumes.create("data", options={"type": "tmpfs", "device": "tmpfs"})
    identifier = await engine.run("sleep", "1000", host=DATA)
    pid = engine.get(identifier).state.pid
    await engine.stop()
    os.kill(pid, 9)
    await engine.open()
    assert not is_mounted(engine, "data")


async def test_a_copy_mounts_what_its_start_would(engine: Engine) -> None:
    """docker cp into and out of one at rest: as long as it takes."""
    shared = overlay_options(engine)
    await engine.volumes.create("data", options=shared)
    identifier = await engine.create("cat", "/data/file", host=DATA)
    files = tar([entry("file", b"copied")])
    await engine.containers.write_archive(identifier, "/data", chunks(files))
    assert not is_mounted(engine, "data")
    found, pieces = await engine.containers.read_archive(identifier, "/data/file")
    assert found.size == 6
    assert [piece async for piece in pieces]
    assert not is_mounted(engine, "data")
    ended = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await ended).status_code == 0
    assert await engine.output(identifier) == "copied"


async def test_a_copy_leaves_mounted_what_somebody_uses(engine: Engine) -> None:
    await engine.volumes.create("data", options={"type": "tmpfs", "device": "tmpfs"})
    identifier = await engine.create("true", host=DATA)
    await engine.run("sleep", "1000", host=DATA)
    await engine.containers.stat_path(identifier, "/data")
    assert is_mounted(engine, "data")


async def test_an_empty_file_system_takes_the_images_content(engine: Engine) -> None:
    """As Docker does it for a share."""
    await engine.volumes.create("data", options=overlay_options(engine))
    code, said = await engine.finish("ls", "/etc/passwd", host=HostConfig(binds=("data:/etc",)))
    assert (code, said) == (0, "/etc/passwd\n")
    assert not is_mounted(engine, "data")


async def test_what_cannot_be_mounted_to_be_filled_is_said_at_create(engine: Engine) -> None:
    await engine.volumes.create("none", options={"type": "nosuchfs", "device": "x"})
    missing = {"type": "none", "o": "bind", "device": str(engine.folder / "missing")}
    await engine.volumes.create("gone", options=missing)
    for name, words in (("none", "no such device"), ("gone", "no such file or directory")):
        with pytest.raises(EngineError, match=f"failed to populate volume: .*{words}"):
            await engine.create("true", host=HostConfig(binds=(f"{name}:/etc",)))
        # Nothing of the image is there: so nobody looks for it before the start.
        identifier = await engine.create("true", host=HostConfig(binds=(f"{name}:/data",)))
        with pytest.raises(EngineError, match=f"failed to mount local volume: .*{words}"):
            await engine.containers.stat_path(identifier, "/etc")
