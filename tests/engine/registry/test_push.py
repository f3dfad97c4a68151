from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import EngineError, Failure, Forbidden, InvalidRequest, NotFound, Unauthorized
from engine.images.model import Progress, Pushed
from engine.images.operations import Images
from engine.oci.reference import parse_reference
from engine.registry.credentials import ANONYMOUS, Credentials
from tests.engine.images.archives import chunks, digest, docker_archive, entry, in_overlay, tar
from tests.engine.images.test_operations import saved
from tests.engine.registry.server import MANIFEST, PASSWORD, USER, Registry, serving
from tests.engine.registry.test_pull import ANN, BASE, LARGE, TOP, nobody, opened, pull, stored

pytestmark = pytest.mark.kernel

# Of more than what travels in one request, compressed.
GREAT = tar([entry("great", os.urandom(1_500_000))])


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as served:
        yield served


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[Images]:
    made = await opened(tmp_path)
    yield made
    await made.close(containers_left=False)


async def push(
    images: Images, name: str, credentials: Credentials = ANONYMOUS
) -> list[Progress | Pushed]:
    steps = images.push(parse_reference(name), credentials=credentials)
    return [step async for step in steps]


async def loaded(images: Images, name: str, *layers: bytes) -> None:
    await images.load(chunks(docker_archive(layers, [name])))


def said(steps: list[Progress | Pushed]) -> list[str]:
    return list(dict.fromkeys(step.status for step in steps if isinstance(step, Progress)))


async def test_what_was_pushed_is_pulled_elsewhere(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, BASE, GREAT, BASE)
    steps = await push(images, name)
    assert steps[0] == Progress(f"The push refers to repository [{registry.host}/box]")
    words = said(steps)
    assert words[1] == "Preparing"
    assert {"Compressing", "Pushing", "Pushed"} < set(words)
    ids = [step.id for step in steps if isinstance(step, Progress) and step.status == "Preparing"]
    assert ids == [digest(layer)[7:19] for layer in (BASE, GREAT)]  # the top one first, each once
    pushed = steps[-1]
    assert isinstance(pushed, Pushed)
    assert words[-1] == f"1: digest: {pushed.digest} size: {pushed.size}"
    assert registry.manifests["box:1"][0] == MANIFEST
    assert images.resolve(name).digests == (f"{registry.host}/box@{pushed.digest}",)
    (tmp_path / "other").mkdir()
    other = await opened(tmp_path / "other")
    await pull(other, name)
    assert other.resolve(name).id == images.resolve(name).id
    lowers = other.layers(other.resolve(name))
    assert in_overlay(lowers, tmp_path, "cat", "base") == "below\n"
    await other.close(containers_left=False)


async def test_what_is_there_is_not_sent_again(images: Images, registry: Registry) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, BASE, TOP)
    first = await push(images, name)
    uploads = len(registry.uploads)
    again = await push(images, name)
    assert again[-1] == first[-1]
    assert said(again)[1:3] == ["Preparing", "Layer already exists"]
    assert len(registry.uploads) == uploads == 3  # two layers and the configuration


async def test_a_compressed_layer_stays_and_its_plain_form_goes(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, BASE)
    assert f"blobs/sha256/{digest(BASE)[7:]}" in stored(tmp_path)
    await push(images, name)
    assert f"blobs/sha256/{digest(BASE)[7:]}" not in stored(tmp_path)
    again = await opened(tmp_path)
    assert again.resolve(name).digests == images.resolve(name).digests
    # It is whole for a save as well.
    archive = await saved(again, name)
    (tmp_path / "other").mkdir()
    other = await opened(tmp_path / "other")
    (result,) = await other.load(chunks(archive))
    assert result.image.id == images.resolve(name).id
    await other.close(containers_left=False)


async def test_an_image_keeps_its_digest_from_registry_to_registry(
    images: Images, registry: Registry
) -> None:
    manifest = registry.add_image("box:1", [BASE, TOP], compress=lambda layer: layer)
    await pull(images, f"{registry.host}/box:1")
    async with serving() as other:
        await images.tag(f"{registry.host}/box:1", f"{other.host}/a/box", "2")
        *_, pushed = await push(images, f"{other.host}/a/box:2")
        assert isinstance(pushed, Pushed)
        assert pushed.digest == manifest
        assert other.manifests["a/box:2"] == registry.manifests["box:1"]


async def test_without_a_tag_all_of_the_repository_go(images: Images, registry: Registry) -> None:
    for tag in ("a", "b"):
        await loaded(images, f"{registry.host}/box:{tag}", BASE)
    await loaded(images, f"{registry.host}/chest:c", BASE)
    steps = await push(images, f"{registry.host}/box")
    assert [step.tag for step in steps if isinstance(step, Pushed)] == ["a", "b"]
    assert {name for name in registry.manifests if "sha256" not in name} == {"box:a", "box:b"}


async def test_an_upload_that_broke_goes_on_where_it_stopped(
    images: Images, registry: Registry
) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, GREAT)
    registry.upload_cuts = [1_200_000]
    await push(images, name)
    ranges = [each.headers.get("Content-Range") for each in registry.seen if each.method == "PATCH"]
    assert ranges[0] is None
    assert str(ranges[1]).startswith("1200000-")
    registry.manifests.clear()
    registry.blobs.clear()
    registry.upload_cuts, registry.forgets = [1_200_000], True
    await push(images, name)
    assert "box:1" in registry.manifests
    registry.blobs.clear()
    registry.upload_cuts = [1_100_000] * 3
    with pytest.raises(EngineError, match='Patch "http'):
        await push(images, name)


async def test_a_try_that_brought_something_on_does_not_count(
    images: Images, registry: Registry
) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, tar([entry("huge", os.urandom(6_000_000))]))
    registry.upload_cuts = [1_200_000, 2_400_000, 3_600_000, 4_800_000]
    await push(images, name)
    assert registry.upload_cuts == []
    assert "box:1" in registry.manifests


async def test_an_upload_that_is_forgotten_meanwhile_begins_anew(
    images: Images, registry: Registry
) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, GREAT)
    registry.unknown_uploads = 1
    await push(images, name)
    assert "box:1" in registry.manifests


async def test_a_removal_meanwhile_takes_nothing_from_a_push(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, BASE, GREAT)
    registry.gate.clear()
    pushing = asyncio.create_task(push(images, name))
    await registry.reached.wait()
    await images.remove(name, users=nobody)
    registry.gate.set()
    await pushing
    assert "box:1" in registry.manifests
    assert images.list() == ()
    assert stored(tmp_path) == []


async def test_who_leaves_ends_the_push(images: Images, registry: Registry) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, LARGE)
    registry.gate.clear()
    pushing = asyncio.create_task(push(images, name))
    await registry.reached.wait()
    pushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pushing
    registry.gate.set()
    await push(images, name)


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("box@sha256:" + "1" * 64, InvalidRequest, "cannot push a digest reference"),
        ("chest", NotFound, "An image does not exist locally with the tag: {host}/chest"),
        ("box:2", NotFound, "tag does not exist: {host}/box:2"),
    ],
)
async def test_what_is_not_here_is_said_in_dockers_words(
    images: Images, registry: Registry, name: str, kind: type[EngineError], text: str
) -> None:
    await loaded(images, f"{registry.host}/box:1", BASE)
    with pytest.raises(kind) as refused:
        await push(images, f"{registry.host}/{name}")
    assert str(refused.value) == text.format(host=registry.host)


async def test_a_token_is_for_pushing_here_and_pulling_what_may_be_mounted(
    images: Images, registry: Registry
) -> None:
    registry.add_image("base:1", [BASE])
    await pull(images, f"{registry.host}/base:1")
    registry.auth = "bearer"
    await images.tag(f"{registry.host}/base:1", f"{registry.host}/a/box", "1")
    await push(images, f"{registry.host}/a/box:1", ANN)
    (asked,) = registry.asked("/token")
    assert asked.query.getall("scope") == ["repository:a/box:pull,push", "repository:base:pull"]


async def test_who_may_not_push_is_told_what_to_do(images: Images, registry: Registry) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, BASE)
    registry.auth = "basic"
    with pytest.raises(Failure, match=r"no basic auth credentials.*docker login 127\.0\.0\.1"):
        await push(images, name)
    with pytest.raises(Unauthorized, match=r"authentication required.*docker login 127\.0\.0\.1"):
        await push(images, name, Credentials(USER, "wrong"))
    registry.auth, registry.strangers = "bearer", False
    with pytest.raises((Unauthorized, Forbidden), match=r"docker login 127\.0\.0\.1"):
        await push(images, name)
    assert registry.uploads == {}


async def test_credentials_do_not_follow_an_upload(images: Images, registry: Registry) -> None:
    name = f"{registry.host}/box:1"
    await loaded(images, name, BASE, GREAT)
    async with serving() as other:
        registry.auth, registry.uploads_at = "basic", f"http://{other.host}"
        other.uploads = registry.uploads
        other.blobs = registry.blobs
        await push(images, name, ANN)
        assert other.seen
        assert not any("Authorization" in request.headers for request in other.seen)
        registry.uploads_at = "http://registry.example"
        await loaded(images, f"{registry.host}/box:2", TOP)
        with pytest.raises(Failure, match="it has to be https"):
            await push(images, f"{registry.host}/box:2", ANN)


async def test_credentials_are_in_no_log(
    images: Images, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    name = f"{registry.host}/box:1"
    await loaded(images, name, GREAT)
    for auth in ("basic", "bearer"):
        registry.auth, registry.upload_cuts = auth, [1_100_000]
        registry.blobs.clear()
        await push(images, name, ANN)
    assert "trying again" in caplog.text
    assert not any(
        secret in caplog.text for secret in (PASSWORD, "Basic ", "Bearer ", registry.token)
    )
    assert PASSWORD not in repr(ANN)
