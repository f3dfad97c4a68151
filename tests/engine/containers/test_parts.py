"""Parts of volumes, and images, mounted in real containers."""

from __future__ import annotations

import re

import pytest

from engine.containers.commit import CommitRequest
from engine.containers.model import ContainerConfig, CreateRequest, HostConfig, MountRequest
from engine.errors import Conflict, EngineError, InvalidRequest, NotFound
from engine.images.model import ImageUser
from tests.engine.containers.conftest import Engine
from tests.engine.containers.test_copies import contents
from tests.engine.images.archives import chunks, entry, folder, symlink, tar

pytestmark = pytest.mark.kernel


def part(below: str, target: str = "/part", **options: object) -> HostConfig:
    mount = MountRequest("volume", target, source="data", subpath=below, **options)  # type: ignore[arg-type]
    return HostConfig(mounts=(mount,))


async def filled(engine: Engine) -> None:
    script = (
        "mkdir -p /data/sub/deep; echo one >/data/sub/f; echo two >/data/file; "
        "ln -s sub /data/inside; ln -s /etc /data/absolute; ln -s ../../../.. /data/up"
    )
    code, output = await engine.finish("sh", "-c", script, host=HostConfig(binds=("data:/data",)))
    assert (code, output) == (0, "")


async def test_a_part_of_a_volume_is_mounted(engine: Engine) -> None:
    await filled(engine)
    assert await engine.finish("cat", "/part/f", host=part("sub")) == (0, "one\n")
    assert await engine.finish("cat", "/part", host=part("file")) == (0, "two\n")
    assert await engine.finish("cat", "/part/f", host=part("inside/./")) == (0, "one\n")
    code, _ = await engine.finish("touch", "/part/x", host=part("sub", read_only=True))
    assert code == 1
    at_rest = await engine.create("true", host=part("sub"))
    assert (await contents(engine, at_rest, "/part/f"))["f"] == b"one\n"


async def test_no_link_in_a_volume_leads_a_part_out_of_it(engine: Engine) -> None:
    await filled(engine)
    for below in ("absolute", "up", "absolute/passwd", "nosuch"):
        identifier = await engine.create("ls", "/part", host=part(below))
        with pytest.raises(EngineError):
            await engine.containers.start(identifier)
    for below in ("..", "../x", "/etc", "sub/../../x"):
        with pytest.raises(InvalidRequest, match="must be a relative path within the volume"):
            await engine.create("true", host=part(below))


async def two_layers(engine: Engine) -> str:
    files = [folder("opt"), entry("opt/below", b"below"), entry("opt/gone", b"x"), entry("top")]
    image = await engine.images.import_(chunks(tar([*files, symlink("out", "/etc")])), "two")
    identifier = (
        await engine.containers.create(
            CreateRequest(ContainerConfig(image=image.id, cmd=("none",)))
        )
    ).id
    await engine.containers.write_archive(
        identifier, "/opt", chunks(tar([entry("above", b"above")]))
    )
    made = await engine.containers.commit(identifier, CommitRequest(ContainerConfig(), "two", "2"))
    await engine.containers.remove(identifier)
    return made.id


def image(source: str, below: str = "") -> HostConfig:
    return HostConfig(mounts=(MountRequest("image", "/image", source=source, subpath=below),))


async def test_an_image_is_mounted_read_only(engine: Engine) -> None:
    identifier = await two_layers(engine)
    for source, expected in (("two:2", "above\nbelow\ngone\n"), ("two", "below\ngone\n")):
        for below, path in (("", "/image/opt"), ("opt", "/image")):
            host = image(source, below)
            assert await engine.finish("ls", path, host=host) == (0, expected)
            code, text = await engine.finish("sh", "-c", f"echo >{path}/new", host=host)
            assert code != 0
            assert re.search("read-only", text, re.IGNORECASE)
            at_rest = await engine.create("true", host=host)
            found = await contents(engine, at_rest, path)
            assert sorted(name for name in found if "/" in name) == [
                f"{path.rpartition('/')[2]}/{name}" for name in expected.split()
            ]
            with pytest.raises(InvalidRequest, match="mounted volume is marked read-only"):
                await engine.containers.write_archive(at_rest, path, chunks(tar([entry("x")])))
    assert await engine.finish("cat", "/image", host=image("two:2", "opt/above")) == (0, "above")
    # Where it was mounted on its way nothing is left.
    _, text = await engine.finish("cat", "/proc/self/mountinfo", host=image("two:2", "opt"))
    assert len([line for line in text.splitlines() if line.split()[4] in ("/", "/image")]) == 2
    for below in ("out", "nosuch"):
        with pytest.raises(EngineError):
            await engine.containers.start(await engine.create("true", host=image("two:2", below)))
    with pytest.raises(NotFound):
        await engine.create("true", host=image("nosuch"))
    users = [ImageUser(found.id, False) for found in engine.containers.image_users(identifier)]
    with pytest.raises(Conflict):
        await engine.images.remove("two:2", users=lambda _: users)
