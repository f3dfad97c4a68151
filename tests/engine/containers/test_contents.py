"""Configs and secrets: files with contents, on a tmpfs that the container alone has."""

import asyncio
import os
from pathlib import Path

import pytest

from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    HostConfig,
    MountRequest,
    PlacedFile,
    ResourceUpdate,
)
from engine.errors import InvalidRequest
from tests.engine.containers.conftest import Engine

pytestmark = pytest.mark.kernel

SECRET = PlacedFile("/run/secrets/token", 1000, 100, 0o440)
CONFIG = PlacedFile("/etc/app/deep/app.conf")


async def make(
    engine: Engine, *command: str, host: HostConfig | None = None, **files: bytes
) -> str:
    contents = {SECRET: files.get("secret", b"one"), CONFIG: files.get("config", b"a=1\n")}
    config = ContainerConfig(image="rootfs:/", cmd=command)
    asked = CreateRequest(config, host or HostConfig(), files=contents)
    return (await engine.containers.create(asked)).id


async def test_files_are_there_with_owner_and_mode_on_a_tmpfs_read_only(engine: Engine) -> None:
    host = HostConfig(readonly_rootfs=True)
    script = (
        "cat /run/secrets/token /etc/app/deep/app.conf; stat -c '%u:%g %a' /run/secrets/token"
        " /etc/app/deep/app.conf; stat -fc %T /run/secrets/token; echo x > /run/secrets/token"
    )
    identifier = await make(engine, "sh", "-c", script, host=host)
    await engine.containers.start(identifier)
    await engine.containers.wait(identifier)
    said = await engine.output(identifier)
    assert said.split()[:6] == ["onea=1", "1000:100", "440", "0:0", "444", "tmpfs"]
    assert "Read-only file system" in said


async def test_they_are_mounted_in_the_container_alone(engine: Engine) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    identifier = await make(engine, "sleep", "1000")
    await engine.containers.start(identifier)
    record = engine.containers.get(identifier)
    assert Path("/proc/self/mountinfo").read_text() == before
    table = Path(f"/proc/{record.state.pid}/mountinfo").read_text()
    mounts = [line.split() for line in table.splitlines()]
    devices = {entry[2] for entry in mounts if entry[4] in (SECRET.target, CONFIG.target)}
    assert len(devices) == 1
    assert {entry[4] for entry in mounts if entry[2] in devices} == {SECRET.target, CONFIG.target}


async def test_what_the_next_start_needs_is_root_s_and_goes_with_it(engine: Engine) -> None:
    identifier = await make(engine, "cat", "/run/secrets/token", secret=b"s3cret")
    (folder,) = engine.folder.glob(f"data/**/{identifier}/files")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert b"s3cret" not in (folder.parent / "config.json").read_bytes()
    await engine.containers.start(identifier)
    await engine.containers.wait(identifier)
    await engine.stop()
    await engine.open()
    await engine.containers.start(identifier)
    await engine.containers.wait(identifier)
    assert await engine.output(identifier) == "s3crets3cret"
    await engine.containers.remove(identifier)
    async with asyncio.timeout(10):
        while folder.parent.exists():
            await asyncio.sleep(0)


async def test_contents_are_replaced_while_it_runs_and_stay_so(engine: Engine) -> None:
    identifier = await make(engine, "sleep", "1000")
    await engine.containers.start(identifier)
    process = Path(f"/proc/{engine.containers.get(identifier).state.pid}")
    inside = process / "root"
    opened = os.open(inside / "run/secrets/token", os.O_RDONLY)
    mounts = len((process / "mountinfo").read_text().splitlines())
    # Before Linux 6.5 a new file can only be put over the old one.
    more = 1 if engine.containers._parts.machine.kernel < (6, 5) else 0
    for number in range(3):
        changed = {PlacedFile(SECRET.target, 0, 0, 0o400): b"number %d" % number}
        await engine.containers.update(identifier, ResourceUpdate(), files=changed)
        found = inside / "run/secrets/token"
        assert found.read_bytes() == b"number %d" % number
        assert found.stat().st_mode & 0o777 == 0o400
    assert os.read(opened, 100) == b"one"
    os.close(opened)
    assert len((process / "mountinfo").read_text().splitlines()) == mounts + 3 * more
    assert (inside / "etc/app/deep/app.conf").read_bytes() == b"a=1\n"
    await engine.containers.restart(identifier, timeout=0)
    inside = Path(f"/proc/{engine.containers.get(identifier).state.pid}/root")
    assert (inside / "run/secrets/token").read_bytes() == b"number 2"


async def test_a_reader_never_sees_a_part(engine: Engine) -> None:
    """One of the two, whole, however often it looks while they are exchanged."""
    sizes = (300_000, 200_000)
    identifier = await make(engine, "sleep", "1000", secret=b"a" * sizes[0])
    await engine.containers.start(identifier)
    path = Path(f"/proc/{engine.containers.get(identifier).state.pid}/root/run/secrets/token")
    done = asyncio.Event()

    async def change() -> None:
        for number in range(20):
            letter = b"ba"[number % 2 : number % 2 + 1]
            content = letter * sizes[(number + 1) % 2]
            await engine.containers.update(identifier, ResourceUpdate(), files={SECRET: content})
        done.set()

    def look() -> set[tuple[int, frozenset[int]]]:
        seen = set()
        while not done.is_set():
            content = path.read_bytes()
            seen.add((len(content), frozenset(content)))
        return seen

    seen, _ = await asyncio.gather(asyncio.to_thread(look), change())
    assert seen <= {(sizes[0], frozenset(b"a")), (sizes[1], frozenset(b"b"))}
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("run/secrets/a", "absolute"),
        ("/run/../a", "clean"),
        ("/proc/self/a", "/proc"),
        ("/", "destination"),
        ("/data", "Duplicate mount point"),
    ],
)
async def test_places_that_cannot_be(engine: Engine, target: str, reason: str) -> None:
    host = HostConfig(mounts=(MountRequest("tmpfs", "/data"),))
    config = ContainerConfig(image="rootfs:/", cmd=("true",))
    asked = CreateRequest(config, host, files={PlacedFile(target): b""})
    with pytest.raises(InvalidRequest, match=reason):
        await engine.containers.create(asked)
    assert not engine.containers.list()


async def test_a_link_in_the_container_leads_nowhere_outside(engine: Engine) -> None:
    """What the file is put under may be the image's, or the container's own, doing."""
    identifier = await make(
        engine, "sh", "-c", "umount /run/secrets/token; rm -rf /run/secrets; sleep 1000",
        host=HostConfig(cap_add=("SYS_ADMIN",), security_opt=("apparmor=unconfined",)),
    )  # fmt: skip
    await engine.containers.start(identifier)
    inside = Path(f"/proc/{engine.containers.get(identifier).state.pid}/root")
    async with asyncio.timeout(20):
        while os.path.lexists(inside / "run/secrets"):
            await asyncio.sleep(0.01)
    outside = engine.folder / "outside"
    outside.mkdir()
    (inside / "run/secrets").symlink_to(outside)
    await engine.containers.update(identifier, ResourceUpdate(), files={SECRET: b"two"})
    assert not list(outside.iterdir())
    made = inside / str(outside).lstrip("/") / "token"
    assert made.read_bytes() == b"two"


async def test_only_files_that_it_was_made_with(engine: Engine) -> None:
    identifier = await make(engine, "true")
    with pytest.raises(InvalidRequest, match="made without a file /other"):
        await engine.containers.update(
            identifier, ResourceUpdate(), files={PlacedFile("/other"): b""}
        )
