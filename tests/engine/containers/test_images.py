"""Containers and the images that they are made of, at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from engine.containers.model import ContainerConfig, Created, CreateRequest, HostConfig
from engine.errors import Conflict, NotFound
from engine.images.model import ImageUser
from tests.engine.containers.conftest import Engine
from tests.engine.images.archives import chunks, config, digest, docker_archive, entry, folder, tar

pytestmark = pytest.mark.kernel

DATA = tar([folder("data"), *(entry(f"data/{n}", bytes(2000)) for n in range(20))])
DOCUMENT = config([digest(DATA)], Volumes={"/data": {}})


def users(engine: Engine, image_id: str) -> list[ImageUser]:
    return [ImageUser(each.id, False) for each in engine.containers.image_users(image_id)]


async def test_an_image_that_is_removed_has_no_container_afterwards(engine: Engine) -> None:
    """However the two meet: one of them is refused."""
    archive = docker_archive([DATA], extra=[entry("config.json", DOCUMENT)],
                             changes={"Config": "config.json"})  # fmt: skip
    request = CreateRequest(ContainerConfig(image="box:1", cmd=("x",)), HostConfig(), name="box")

    async def remove(moment: Callable[[], object]) -> None:
        while not moment():
            await asyncio.sleep(0)
        await engine.images.remove("box:1", users=lambda image: users(engine, image))

    moments: tuple[Callable[[], object], ...] = (lambda: True, engine.volumes.list,
                                                 engine.containers.list)  # fmt: skip
    outcomes = []
    for moment in moments:
        await engine.images.load(chunks(archive))
        created, removed = await asyncio.gather(
            engine.containers.create(request), remove(moment), return_exceptions=True
        )
        if isinstance(created, BaseException):
            assert isinstance(created, NotFound), created
            assert removed is None
            assert engine.containers.list() == ()
            assert engine.volumes.list() == ()
        else:
            assert isinstance(removed, Conflict)
            (volume,) = engine.volumes.list()
            content = engine.folder / "data/volumes" / volume.name
            assert len(list(content.rglob("[0-9]*"))) == 20
            await engine.containers.remove("box", volumes=True)
            await engine.images.remove("box:1", users=lambda image: users(engine, image))
        outcomes.append(type(created))
        assert engine.images.list() == ()
        assert list((engine.folder / "data/images/layers").iterdir()) == []
    assert outcomes == [NotFound, NotFound, Created]
