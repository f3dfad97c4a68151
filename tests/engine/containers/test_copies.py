"""Copies in and out of real containers, at rest and running."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import tarfile
from collections.abc import AsyncIterator
from typing import IO

import pytest

from engine.containers.model import ContainerConfig, CreateRequest, HostConfig, MountRequest
from engine.errors import InvalidRequest, NotFound
from tests.engine.containers.conftest import Engine
from tests.engine.images.archives import chunks, entry, symlink, tar
from tests.engine.runtime.laboratory import ended, shim_of

pytestmark = pytest.mark.kernel


async def contents(engine: Engine, reference: str, path: str) -> dict[str, bytes]:
    _, pieces = await engine.containers.read_archive(reference, path)
    archive = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            info.name: stream.read() if (stream := _opened(opened, info)) else b""
            for info in opened
        }


def _opened(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes] | None:
    return archive.extractfile(info) if info.isfile() else None


async def test_files_copied_before_the_start_are_there(engine: Engine) -> None:
    """How compose delivers configs and secrets."""
    host = HostConfig(binds=("data:/srv/data",))
    identifier = await engine.create(
        "sh", "-c", "cat /etc/app.conf /srv/data/seed; stat -c %u:%a /etc/app.conf", host=host
    )
    files = [
        entry("etc/app.conf", b"config\n", uid=7, mode=0o440), entry("srv/data/seed", b"seed\n")
    ]  # fmt: skip
    await engine.containers.write_archive(identifier, "/", chunks(tar(files)))
    ended = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await ended).status_code == 0
    assert await engine.output(identifier) == "config\nseed\n7:440\n"
    assert await contents(engine, identifier, "/srv/data") == {"data": b"", "data/seed": b"seed\n"}


async def test_a_bind_whose_source_is_missing_is_as_it_will_be_at_the_start(engine: Engine) -> None:
    made, wanted = engine.folder / "made", engine.folder / "wanted"
    wanted.mkdir()
    host = HostConfig(
        binds=(f"{made}:/made",), mounts=(MountRequest("bind", "/wanted", str(wanted)),)
    )
    identifier = await engine.create("cat", "/made/seed", host=host)
    wanted.rmdir()
    await engine.containers.write_archive(identifier, "/made", chunks(tar([entry("seed", b"s")])))
    assert (made / "seed").read_bytes() == b"s"
    with pytest.raises(NotFound):
        await contents(engine, identifier, "/wanted")
    assert not wanted.exists()


async def test_what_is_removed_while_a_copy_waits_for_it_is_not_there(engine: Engine) -> None:
    """Else the copy mounts below a root that is being cleared away, and some of that stays."""
    identifier = await engine.create("true")
    _, pieces = await engine.containers.read_archive(identifier, "/etc/passwd")
    assert await anext(pieces)  # nothing is done with it until all is read
    removal = asyncio.create_task(engine.containers.remove(identifier))
    await asyncio.sleep(0)  # it comes first
    copy = asyncio.create_task(engine.containers.stat_path(identifier, "/etc"))
    await asyncio.sleep(0)
    async for _ in pieces:
        pass
    await removal
    with pytest.raises(NotFound, match="No such container"):
        await copy


async def test_a_copy_from_what_has_just_ended_is_one_from_what_is_at_rest(engine: Engine) -> None:
    """Its root went with its process; that this ended is not told yet."""
    identifier = await engine.run("sleep", "100")
    await engine.containers.write_archive(identifier, "/", chunks(tar([entry("told", b"said")])))
    keeper = shim_of(identifier)
    os.kill(keeper, signal.SIGSTOP)
    pid = engine.get(identifier).state.pid
    os.kill(pid, signal.SIGKILL)
    await ended(pid)
    copy = asyncio.create_task(contents(engine, identifier, "/told"))
    await asyncio.sleep(0)
    os.kill(keeper, signal.SIGCONT)
    assert await copy == {"told": b"said"}


async def test_a_running_container_takes_and_gives_files(engine: Engine) -> None:
    host = HostConfig(binds=("data:/srv/data",), tmpfs={"/scratch": ""})
    identifier = await engine.run(
        "sh", "-c", "until test -e /scratch/go; do sleep 0.05; done; echo made > /scratch/made; "
        "cat /srv/data/in; exec sleep 100", host=host,
    )  # fmt: skip
    await engine.containers.write_archive(identifier, "/srv/data", chunks(tar([entry("in", b"x")])))
    await engine.containers.write_archive(identifier, "/scratch", chunks(tar([entry("go")])))
    async with asyncio.timeout(20):
        while True:
            try:
                found = await contents(engine, identifier, "/scratch/made")
            except NotFound:
                await asyncio.sleep(0)
                continue
            if found == {"made": b"made\n"}:
                break


async def test_a_container_leads_no_copy_astray(engine: Engine) -> None:
    identifier = await engine.run("sh", "-c", "ln -s /proc/1/root /magic; exec sleep 100")
    with pytest.raises(NotFound, match="Could not find the file /nosuch in container"):
        await contents(engine, identifier, "/nosuch")
    for path in ("/proc/1/root/etc", "/proc/self/cwd/etc"):
        with pytest.raises(NotFound):
            await engine.containers.stat_path(identifier, path)
    hostile = tar([symlink("up", "../../../../../../etc"), entry("up/pyc-escaped", b"x")])
    await engine.containers.write_archive(identifier, "/tmp", chunks(hostile))
    assert "pyc-escaped" in await contents(engine, identifier, "/etc/pyc-escaped")


async def test_a_copy_of_all_has_nothing_of_the_kernels(engine: Engine) -> None:
    """/proc of a running container has files that end early, and some that can't be read.

    Of a small tree: a whole machine is gigabytes."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox (Debian: apt-get install busybox-static)")
    tree = engine.folder / "tree"
    tree.mkdir()
    shutil.copy(busybox, tree)
    host = HostConfig(binds=("data:/srv/data",), tmpfs={"/scratch": ""})
    config = ContainerConfig(image=f"rootfs:{tree}", cmd=("/busybox", "sleep", "100"))
    identifier = (await engine.containers.create(CreateRequest(config, host))).id
    await engine.containers.start(identifier)
    await engine.containers.write_archive(identifier, "/srv/data", chunks(tar([entry("in", b"x")])))
    await engine.containers.write_archive(identifier, "/scratch", chunks(tar([entry("on", b"y")])))
    for path in ("dev", "proc", "sys"):
        for written in (f"/{path}", f"/{path}/"):
            assert list(await contents(engine, identifier, written)) == [path]
    for path in ("/proc/cpuinfo", "/dev/null", "/sys/kernel", "/proc/sys/kernel/hostname"):
        with pytest.raises(NotFound, match=f"Could not find the file {path} in container"):
            await contents(engine, identifier, path)
        with pytest.raises(NotFound):
            await engine.containers.stat_path(identifier, path)
    _, pieces = await engine.containers.read_archive(identifier, "/")
    archive = b"".join([piece async for piece in pieces])
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        names = {name.lstrip("/") for name in opened.getnames()}
    assert {"busybox", "srv/data/in", "scratch/on", "dev", "proc", "sys"} <= names
    assert not [name for name in names if name.startswith(("dev/", "proc/", "sys/"))]


async def test_a_read_only_container_refuses(engine: Engine) -> None:
    host = HostConfig(readonly_rootfs=True, binds=("data:/srv/data:ro",))
    identifier = await engine.run("sleep", "100", host=host)
    for path, text in (("/etc", "container rootfs"), ("/srv/data", "mounted volume")):
        with pytest.raises(InvalidRequest, match=f"{text} is marked read-only"):
            await engine.containers.write_archive(identifier, path, chunks(tar([entry("x")])))


async def test_a_client_that_leaves_lets_the_container_go(engine: Engine) -> None:
    identifier = await engine.create("true")
    _, pieces = await engine.containers.read_archive(identifier, "/usr/bin")
    async for _piece in pieces:
        break
    assert hasattr(pieces, "aclose")
    await pieces.aclose()
    await engine.containers.start(identifier)

    reached = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        reached.set()
        await asyncio.Event().wait()
        yield b""

    other = await engine.create("true")
    copying = asyncio.create_task(engine.containers.write_archive(other, "/", stalled()))
    await reached.wait()
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await engine.containers.start(other)
