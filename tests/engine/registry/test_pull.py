from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from engine.errors import EngineError, Failure, NotFound, Unauthorized
from engine.images.model import ImageUser, Progress
from engine.images.operations import Images
from engine.oci.platform import parse_platform
from engine.oci.reference import parse_reference
from engine.registry.client import RegistryClient
from engine.registry.credentials import ANONYMOUS, Credentials
from engine.settings import Registries
from tests.engine.images.archives import config, digest, entry, in_overlay, tar
from tests.engine.registry.server import INDEX, MANIFEST, PASSWORD, USER, Registry, serving, zipped

pytestmark = pytest.mark.kernel

ANN = Credentials(username=USER, password=PASSWORD)
BASE = tar([entry("base", b"below\n")])
TOP = tar([entry("top", b"above\n")])
# Of more than one chunk, and nothing that gzip makes small.
LARGE = tar([entry("large", random.Random(1).randbytes(600_000))])


def nobody(_: str) -> Sequence[ImageUser]:
    return ()


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as served:
        yield served


async def opened(folder: Path, registries: Registries | None = None) -> Images:
    registries = replace(registries or Registries(), attempts=3)
    client = RegistryClient(registries, pauses=(0, 0))
    return await Images.open(folder / "images", client=client)


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[Images]:
    made = await opened(tmp_path)
    yield made
    await made.close(containers_left=False)


async def pull(
    images: Images, name: str, credentials: Credentials = ANONYMOUS, platform: str = ""
) -> list[Progress]:
    chosen = parse_platform(platform, images.platform) if platform else None
    steps = images.pull(parse_reference(name), platform=chosen, credentials=credentials)
    return [step async for step in steps]


def said(steps: Sequence[Progress]) -> list[str]:
    """What happened, without how far it was each time."""
    return list(dict.fromkeys(step.status for step in steps))


def stored(root: Path) -> list[str]:
    folders = ("layers", "tmp", "blobs/sha256")
    return [f"{name}/{each}" for name in folders for each in os.listdir(root / "images" / name)]


async def test_an_image_is_pulled_layer_by_layer(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    manifest = registry.add_image("box:1", [BASE, TOP])
    steps = await pull(images, f"{registry.host}/box:1")
    assert steps[0] == Progress("Pulling from box", "1")
    assert [step.status for step in steps[1:3]] == ["Pulling fs layer"] * 2
    assert {"Downloading", "Download complete", "Extracting", "Pull complete"} <= set(said(steps))
    assert [step.status for step in steps[-2:]] == [
        f"Digest: {manifest}",
        f"Status: Downloaded newer image for {registry.host}/box:1",
    ]
    layers = {digest(zipped(layer))[7:19] for layer in (BASE, TOP)}
    assert {step.id for step in steps if step.is_of_layer} == layers
    image = images.resolve(f"{registry.host}/box:1")
    assert image.tags == (f"{registry.host}/box:1",)
    assert image.digests == (f"{registry.host}/box@{manifest}",)
    assert in_overlay(images.layers(image), tmp_path, "cat", "base", "top") == "below\nabove\n"
    assert images.resolve(f"{registry.host}/box:9@{manifest}").id == image.id


async def test_what_is_here_is_not_fetched_again(images: Images, registry: Registry) -> None:
    registry.add_image("box:1", [BASE])
    await pull(images, f"{registry.host}/box:1")
    again = await pull(images, f"{registry.host}/box:1")
    assert [step.status.split()[0] for step in again] == ["Pulling", "Digest:", "Status:"]
    assert again[-1].status == f"Status: Image is up to date for {registry.host}/box:1"
    registry.add_image("box:1", [BASE, TOP])
    newer = await pull(images, f"{registry.host}/box:1")
    assert said(newer)[1:3] == ["Already exists", "Pulling fs layer"]
    assert newer[-1].status.startswith("Status: Downloaded newer image")
    assert len(registry.asked(digest(zipped(BASE)))) == 1


async def test_a_pull_without_a_tag_takes_all(images: Images, registry: Registry) -> None:
    for tag in ("a", "b", "c"):
        registry.add_image(f"box:{tag}", [BASE])
    steps = await pull(images, f"{registry.host}/box")
    assert images.resolve(f"{registry.host}/box:a").tags == tuple(
        f"{registry.host}/box:{tag}" for tag in "abc"
    )
    assert steps[-1].status == f"Status: Downloaded newer image for {registry.host}/box"


async def test_the_image_for_the_platform_is_taken(images: Images, registry: Registry) -> None:
    here = images.platform
    registry.add_image("box:here", [BASE])
    registry.add_image("box:far", [TOP], document=config([digest(TOP)]).replace(b"amd64", b"arm"))
    registry.add_index(
        "box:1",
        [("box:here", "unknown", "unknown"), ("box:far", "linux", "arm"),
         ("box:here", here.os, here.architecture)],
    )  # fmt: skip
    await pull(images, f"{registry.host}/box:1")
    assert images.layer_digests(images.resolve(f"{registry.host}/box:1")) == (digest(BASE),)
    await pull(images, f"{registry.host}/box:1", platform="linux/arm/v7")
    assert images.layer_digests(images.resolve(f"{registry.host}/box:1")) == (digest(TOP),)
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        await pull(images, f"{registry.host}/box:1", platform="linux/s390x")
    # What is for one platform comes anyway, with a word of warning, as in Docker.
    steps = await pull(images, f"{registry.host}/box:here", platform="linux/s390x")
    assert steps[-1].status == (
        f"WARNING: image with reference {registry.host}/box:here was found but its platform "
        f"({here}) does not match the specified platform (linux/s390x)"
    )


async def test_zstd_and_plain_layers_are_layers(images: Images, registry: Registry) -> None:
    registry.add_image("box:zstd", [BASE], compress=zstandard.ZstdCompressor().compress)
    registry.add_image("box:plain", [TOP], compress=lambda layer: layer)
    for tag, layer in (("zstd", BASE), ("plain", TOP)):
        await pull(images, f"{registry.host}/box:{tag}")
        image = images.resolve(f"{registry.host}/box:{tag}")
        assert images.layer_digests(image) == (digest(layer),)


async def test_three_layers_are_moved_at_once(images: Images, registry: Registry) -> None:
    layers = [tar([entry(f"file{number}", b"x")]) for number in range(8)]
    registry.add_image("box:1", layers)
    registry.gate.clear()
    pulling = asyncio.create_task(pull(images, f"{registry.host}/box:1"))
    while registry.at_once < 3:
        await asyncio.sleep(0.01)
    registry.gate.set()
    await pulling
    assert registry.most_at_once == 3


async def test_pulls_at_once_share_what_they_have_in_common(
    images: Images, registry: Registry
) -> None:
    registry.add_image("box:1", [BASE, TOP])
    registry.add_image("other:1", [BASE])
    registry.gate.clear()
    pulls = [
        asyncio.create_task(pull(images, f"{registry.host}/{name}"))
        for name in ("box:1", "box:1", "other:1")
    ]
    while len(registry.asked("/manifests/")) < 3:
        await asyncio.sleep(0.01)
    await registry.reached.wait()
    registry.gate.set()
    for each in pulls:
        assert (await each)[-1].status.startswith("Status: Downloaded newer")
    assert len(registry.asked(digest(zipped(BASE)))) == 1


async def test_who_leaves_stops_only_what_nobody_else_needs(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    registry.add_image("box:1", [BASE, TOP])
    registry.gate.clear()
    first = asyncio.create_task(pull(images, f"{registry.host}/box:1"))
    await registry.reached.wait()
    second = asyncio.create_task(pull(images, f"{registry.host}/box:1"))
    while len(registry.asked("/manifests/")) < 2 or len(registry.asked("/blobs/")) < 4:
        await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    registry.gate.set()
    await second
    assert images.resolve(f"{registry.host}/box:1")
    assert len(registry.asked(digest(zipped(BASE)))) == 1

    registry.add_image("box:2", [LARGE])
    registry.gate.clear()
    registry.reached.clear()
    third = asyncio.create_task(pull(images, f"{registry.host}/box:2"))
    await registry.reached.wait()
    before = stored(tmp_path)
    third.cancel()
    with pytest.raises(asyncio.CancelledError):
        await third
    assert [name for name in stored(tmp_path) if name.startswith("tmp/")] == []
    assert len(before) > len(stored(tmp_path))


async def test_a_removal_meanwhile_takes_nothing_from_a_pull(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    registry.add_image("old:1", [BASE])
    await pull(images, f"{registry.host}/old:1")
    registry.add_image("new:1", [BASE, TOP])
    registry.gate.clear()
    registry.reached.clear()
    pulling = asyncio.create_task(pull(images, f"{registry.host}/new:1"))
    await registry.reached.wait()
    await images.remove(f"{registry.host}/old:1", users=nobody)
    registry.gate.set()
    await pulling
    image = images.resolve(f"{registry.host}/new:1")
    assert in_overlay(images.layers(image), tmp_path, "cat", "base", "top") == "below\nabove\n"
    await images.remove(f"{registry.host}/new:1", users=nobody)
    assert stored(tmp_path) == []


# ---- faults


async def test_an_interrupted_layer_goes_on_where_it_stopped(
    images: Images, registry: Registry
) -> None:
    registry.add_image("box:1", [LARGE])
    registry.cuts = [400_000, 100_000]
    await pull(images, f"{registry.host}/box:1")
    asked = registry.asked(digest(zipped(LARGE)))
    starts = [request.headers.get("Range", "") for request in asked]
    assert starts[0] == ""
    assert len(starts) == 3
    assert all(start.startswith("bytes=") for start in starts[1:])


async def test_a_registry_without_ranges_starts_over(images: Images, registry: Registry) -> None:
    registry.add_image("box:1", [LARGE])
    registry.cuts, registry.ranges, registry.failures = [400_000], False, [503]
    await pull(images, f"{registry.host}/box:1")
    assert images.resolve(f"{registry.host}/box:1")


async def test_it_gives_up_after_some_tries(
    images: Images, registry: Registry, tmp_path: Path
) -> None:
    registry.add_image("box:1", [BASE, LARGE])
    registry.failures = [503] * 20
    with pytest.raises(Failure, match="unexpected HTTP status: 503"):
        await pull(images, f"{registry.host}/box:1")
    assert stored(tmp_path) == []
    registry.failures = []
    await pull(images, f"{registry.host}/box:1")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"other", "filesystem layer verification failed"),
        (zipped(BASE)[:-1] + b"x", "filesystem layer verification failed"),
        (zipped(BASE) + b"more", "cannot store more than"),
    ],
)
async def test_a_layer_that_is_not_what_it_should_be_is_refused(
    images: Images, registry: Registry, tmp_path: Path, content: bytes, text: str
) -> None:
    registry.add_image("box:1", [TOP, BASE])
    registry.blobs[digest(zipped(BASE))] = content
    if len(content) < 10:  # too short: that is an end before the end, every time
        text = "unexpected EOF"
    with pytest.raises(EngineError, match=text):
        await pull(images, f"{registry.host}/box:1")
    assert stored(tmp_path) == []


@pytest.mark.parametrize(
    ("document", "kind", "text"),
    [
        (b"null", MANIFEST, "expected an object"),
        (b"{", MANIFEST, "no valid JSON"),
        (b'{"schemaVersion":2,"layers":[],"manifests":[]}', MANIFEST, "both layers and manifests"),
        (b'{"schemaVersion":2,"mediaType":"%s"}' % INDEX.encode(), MANIFEST, "says it is"),
        (b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+json",
         "only schema version 2"),
        (b'{"schemaVersion":2,"config":{"digest":"md5:00"},"layers":[]}', MANIFEST,
         "unsupported digest algorithm"),
        (b" " * (5 << 20), MANIFEST, "more than 4194304 bytes"),
    ],
)  # fmt: skip
async def test_a_manifest_that_makes_no_sense_is_refused(
    images: Images, registry: Registry, document: bytes, kind: str, text: str
) -> None:
    registry.add_manifest("box:1", document, kind)
    with pytest.raises(Failure, match=text):
        await pull(images, f"{registry.host}/box:1")


async def test_a_manifest_is_what_was_asked_for(images: Images, registry: Registry) -> None:
    manifest = registry.add_image("box:1", [BASE])
    registry.manifests[f"box:{manifest}"] = (MANIFEST, b'{"schemaVersion":2}')
    with pytest.raises(Failure, match="manifest verification failed"):
        await pull(images, f"{registry.host}/box@{manifest}")


async def test_indexes_that_go_round_come_to_an_end(images: Images, registry: Registry) -> None:
    registry.add_image("box:0", [BASE])
    here = images.platform
    for number in range(1, 7):
        registry.add_index(f"box:{number}", [(f"box:{number - 1}", here.os, here.architecture)])
    with pytest.raises(Failure, match="nested too deep"):
        await pull(images, f"{registry.host}/box:6")


async def test_what_is_missing_is_said_in_dockers_words(images: Images, registry: Registry) -> None:
    with pytest.raises(NotFound) as refused:
        await pull(images, f"{registry.host}/box:none")
    assert str(refused.value) == (
        f"manifest for {registry.host}/box:none not found: manifest unknown: manifest unknown"
    )
    with pytest.raises(Failure, match=r"dial tcp 127\.0\.0\.1:1: connect: connection refused"):
        await pull(images, "127.0.0.1:1/box:1")


async def test_a_registry_that_is_asked_too_often_is_given_time(
    images: Images, registry: Registry
) -> None:
    registry.add_image("box:1", [BASE])
    registry.busy, registry.failures = ["1"], [429]
    await pull(images, f"{registry.host}/box:1")
    assert len(registry.asked("/manifests/1")) == 2
    for after, wait in (("7200", "try again in 7200 seconds"), ("", "try again later")):
        registry.busy = [after]
        with pytest.raises(Failure) as refused:
            await pull(images, f"{registry.host}/box:1")
        assert str(refused.value) == (
            f"toomanyrequests: You have reached your pull rate limit ({wait}; who logs in may ask "
            f"more often: docker login {registry.host})"
        )
    assert len(registry.asked("/manifests/1")) == 4
    registry.add_image("box:2", [TOP])
    registry.failures, registry.retry_after = [429], "7200"
    with pytest.raises(Failure, match=r"429 Too Many Requests \(try again in 7200 seconds"):
        await pull(images, f"{registry.host}/box:2")


# ---- who asks


async def test_basic_credentials_are_sent_when_they_are_asked_for(
    images: Images, registry: Registry
) -> None:
    registry.auth = "basic"
    registry.add_image("box:1", [BASE])
    with pytest.raises(Failure, match="no basic auth credentials"):
        await pull(images, f"{registry.host}/box:1")
    with pytest.raises(Unauthorized, match="unauthorized: authentication required"):
        await pull(images, f"{registry.host}/box:1", Credentials(USER, "wrong"))
    await pull(images, f"{registry.host}/box:1", ANN)


@pytest.mark.parametrize("credentials", [ANONYMOUS, ANN, Credentials(identity_token="identity")])
async def test_a_token_is_got_for_the_repository(
    images: Images, registry: Registry, credentials: Credentials
) -> None:
    registry.auth = "bearer"
    registry.add_image("a/box:1", [BASE, TOP])
    await pull(images, f"{registry.host}/a/box:1", credentials)
    (asked,) = registry.asked("/token")
    if asked.method == "GET":
        assert asked.query["scope"] == "repository:a/box:pull"
        assert asked.query["service"] == "here"
    assert registry.asked("/token") == [asked]


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_a_login_is_checked_at_the_registry(
    images: Images, registry: Registry, auth: str
) -> None:
    registry.auth = auth
    await images.log_in(f"http://{registry.host}/v1/", ANN)
    with pytest.raises(EngineError, match=r"401 Unauthorized|incorrect username or password"):
        await images.log_in(registry.host, Credentials(USER, "wrong"))


async def test_a_login_brings_a_token_to_keep_where_there_is_one(
    images: Images, registry: Registry
) -> None:
    registry.auth, registry.refresh_token = "bearer", "identity"
    assert await images.log_in(registry.host, ANN) == "identity"
    (asked,) = registry.asked("/token")
    assert asked.query["offline_token"] == "true"
    registry.add_image("box:1", [BASE])
    await pull(images, f"{registry.host}/box:1", Credentials(identity_token="identity"))
    registry.auth = "basic"
    assert await images.log_in(registry.host, ANN) == ""


async def test_a_token_that_is_at_its_end_is_renewed(images: Images, registry: Registry) -> None:
    registry.auth = "bearer"
    registry.add_image("box:1", [BASE, TOP])
    steps = images.pull(parse_reference(f"{registry.host}/box:1"))
    async for step in steps:
        if step.status.startswith("Pulling from"):
            registry.token = "another"
    assert len(registry.asked("/token")) >= 1
    assert images.resolve(f"{registry.host}/box:1")


async def test_a_repository_that_one_may_not_see_is_not_there(
    images: Images, registry: Registry
) -> None:
    registry.auth, registry.strangers = "bearer", False
    with pytest.raises(NotFound) as refused:
        await pull(images, f"{registry.host}/box:1")
    assert str(refused.value) == (
        f"pull access denied for {registry.host}/box, repository does not exist or may require "
        "'docker login': denied: requested access to the resource is denied"
    )
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        await pull(images, f"{registry.host}/box:1", Credentials(USER, "wrong"))


async def test_credentials_do_not_follow_a_redirect(images: Images, registry: Registry) -> None:
    async with serving() as other:
        registry.auth, registry.elsewhere = "basic", f"http://{other.host}"
        registry.add_image("box:1", [BASE])
        other.blobs = registry.blobs
        await pull(images, f"{registry.host}/box:1", ANN)
        assert len(other.seen) == 2
        assert not any("Authorization" in request.headers for request in other.seen)
        # Neither is the answer to a stranger's challenge.
        other.auth = "basic"
        registry.add_image("box:2", [TOP])
        with pytest.raises(Failure):
            await pull(images, f"{registry.host}/box:2", ANN)
        assert not any("Authorization" in request.headers for request in other.seen)


@pytest.mark.parametrize(
    "target", ["http://registry.example", "file:///etc", "ftp://127.0.0.1", "unix:///run/x"]
)
async def test_a_redirect_leads_to_no_odd_place(
    images: Images, registry: Registry, target: str
) -> None:
    registry.add_image("box:1", [BASE])
    registry.elsewhere = target
    with pytest.raises(Failure, match="it has to be https"):
        await pull(images, f"{registry.host}/box:1")
    registry.elsewhere = f"http://{registry.host}"
    with pytest.raises(Failure, match="stopped after 10 redirects"):
        await pull(images, f"{registry.host}/box:1")


async def test_a_token_server_has_to_be_safe_as_well(images: Images, registry: Registry) -> None:
    registry.auth, registry.realm = "bearer", "http://tokens.example/"
    with pytest.raises(Failure, match=r"cannot follow .* it has to be https"):
        await pull(images, f"{registry.host}/box:1", ANN)


# ---- where it is asked


async def test_docker_hub_is_asked_for_after_its_mirrors(
    registry: Registry, tmp_path: Path
) -> None:
    """As nobody: what the user has is for Docker Hub."""
    async with serving() as strict:
        strict.auth = "basic"
        registry.add_image("library/box:1", [BASE])
        hosts = ("127.0.0.1:1", strict.host, registry.host)
        images = await opened(tmp_path, Registries(tuple(f"http://{host}" for host in hosts)))
        await pull(images, "box:1", ANN)
        assert images.resolve("docker.io/library/box:1").tags == ("box:1",)
        assert strict.seen
        assert not any("Authorization" in each.headers for each in strict.seen + registry.seen)
        await images.close(containers_left=False)


async def test_a_registry_without_tls_is_told_from_a_bad_certificate(
    registry: Registry, tmp_path: Path
) -> None:
    images = await opened(tmp_path, Registries((f"https://{registry.host}",)))
    with pytest.raises(Failure, match="http: server gave HTTP response to HTTPS client"):
        await pull(images, "box:1")
    await images.close(containers_left=False)


async def test_a_crash_in_a_pull_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    images = await opened(tmp_path)
    registry.add_image("box:1", [BASE, LARGE])
    registry.gate.clear()
    pulling = asyncio.create_task(pull(images, f"{registry.host}/box:1"))
    await registry.reached.wait()
    assert stored(tmp_path) != []
    again = await opened(tmp_path)  # as after kill -9: nobody cleaned up
    assert stored(tmp_path) == []
    assert again.list() == ()
    registry.gate.set()
    with pytest.raises(EngineError):
        await pulling
    await pull(again, f"{registry.host}/box:1")
    await images.close()
    await again.close(containers_left=False)
