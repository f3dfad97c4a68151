from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import Failure, InvalidRequest, NotFound
from engine.images.operations import Images
from engine.oci.reference import parse_reference
from engine.registry.credentials import ANONYMOUS
from engine.registry.search import Found, split_term
from tests.engine.registry.server import INDEX, MANIFEST, Registry, serving
from tests.engine.registry.test_pull import ANN, BASE, TOP, opened

pytestmark = pytest.mark.kernel


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as served:
        yield served


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[Images]:
    made = await opened(tmp_path)
    yield made
    await made.close(containers_left=False)


@pytest.mark.parametrize(
    ("term", "place"),
    [
        ("busybox", ("docker.io", "busybox")),
        ("library/busybox", ("docker.io", "busybox")),
        ("ann/box", ("docker.io", "ann/box")),
        ("reg.example/box", ("reg.example", "box")),
        ("localhost/a/b", ("localhost", "a/b")),
        ("index.docker.io/x", ("docker.io", "x")),
    ],
)
def test_a_term_says_where_to_look(term: str, place: tuple[str, str]) -> None:
    assert split_term(term) == place
    with pytest.raises(InvalidRequest, match="must not have a scheme"):
        split_term(f"https://{term}")


async def test_an_index_server_is_asked(images: Images, registry: Registry) -> None:
    registry.searchable = [
        {"name": "a/box", "description": "Boxes", "star_count": 3, "is_official": True}
    ]
    found = await images.search(f"{registry.host}/bo x", ANONYMOUS, limit=7)
    assert found == [Found("a/box", "Boxes", 3, is_official=True)]
    (asked,) = registry.asked("/v1/search")
    assert dict(asked.query) == {"q": "bo x", "n": "7"}


async def test_a_registry_without_search_has_a_catalog(images: Images, registry: Registry) -> None:
    registry.auth = "bearer"
    for name in ("a/box", "chest", "boxes", "zinc"):
        registry.add_image(f"{name}:1", [BASE])
    found = await images.search(f"{registry.host}/box", ANN, limit=25)
    assert [each.name for each in found] == [
        f"{registry.host}/{name}" for name in ("a/box", "boxes")
    ]
    assert registry.asked("/token")[0].query["scope"] == "registry:catalog:*"
    assert len(await images.search(f"{registry.host}/box", ANN, limit=1)) == 1
    with pytest.raises(Failure, match=r"dial tcp 127\.0\.0\.1:1: connect: connection refused"):
        await images.search("127.0.0.1:1/box", ANONYMOUS, limit=1)


async def test_what_a_registry_has_is_told_without_getting_it(
    images: Images, registry: Registry
) -> None:
    manifest = registry.add_image("box:1", [BASE, TOP])
    index = registry.add_index("box:2", [("box:1", "linux", "amd64"), ("box:1", "linux", "arm64")])
    one = await images.look_up(parse_reference(f"{registry.host}/box:1"))
    assert (one.descriptor.digest, one.descriptor.media_type) == (manifest, MANIFEST)
    assert [str(platform) for platform in one.platforms] == ["linux/amd64"]
    several = await images.look_up(parse_reference(f"{registry.host}/box@{index}"))
    assert (several.descriptor.digest, several.descriptor.media_type) == (index, INDEX)
    assert [str(platform) for platform in several.platforms] == ["linux/amd64", "linux/arm64"]
    with pytest.raises(NotFound, match="manifest unknown"):
        await images.look_up(parse_reference(f"{registry.host}/box:9"))
    assert images.list() == ()
