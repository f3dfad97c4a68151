"""Artifacts of a registry, and images that are copied beside them."""

import json

import pytest

from engine.errors import InvalidRequest
from engine.oci.digest import digest_of
from engine.oci.manifest import Descriptor
from engine.registry.artifacts import EMPTY_TYPE, Blob, named, registry
from tests.engine.images.archives import entry, tar
from tests.engine.registry.server import INDEX, serving


async def test_an_artifact_comes_back_by_its_digest_and_out_of_an_index() -> None:
    blobs = (Blob("text/plain", b"one", {"a": "b"}), Blob("text/plain", b"two"))
    async with serving() as server, registry({}, ()) as client:
        there = named(client, f"{server.host}/team/thing:1", {})
        made = await there.push("some/type", Blob(EMPTY_TYPE, b"{}"), blobs, {})
        assert made.digest == await there.digest()
        assert await there.pull(made.digest, ("some/type",)) == blobs
        with pytest.raises(InvalidRequest, match="is no other/type, but 'some/type'"):
            await there.pull(made.digest, ("other/type",))

        entries = [{"mediaType": made.media_type, "digest": made.digest, "size": made.size}]
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
        server.add_manifest("team/thing:2", index, INDEX)
        both = named(client, f"{server.host}/team/thing:2", {})
        with pytest.raises(InvalidRequest, match="is an index with no some/type in it"):
            await both.pull(await both.digest(), ("some/type",))
        entries[0]["artifactType"] = "some/type"
        server.add_manifest("team/thing:2", index, INDEX)
        assert await both.pull(await both.digest(), ("some/type",)) == blobs


async def test_an_image_is_copied_with_all_that_it_is_made_of() -> None:
    async with serving() as one, serving() as other, registry({}, ()) as client:
        one.add_image("base:arm", [tar([entry("a", b"x" * 5000)])])
        one.add_index("base:1", [("base:arm", "linux", "arm64")])
        there = named(client, f"{other.host}/team/shop:1", {})
        copied = await there.copy(named(client, f"{one.host}/base:1", {}))
        assert copied.digest == digest_of(one.manifests["base:1"][1])
        assert other.blobs == one.blobs
        digests = {digest_of(content) for _, content in one.manifests.values()}
        assert {f"team/shop:{digest}" for digest in digests} == {*other.manifests}

        subject = Descriptor("m", digest_of(b"{}"), 2)
        index = await there.push_index(subject, [copied], {})
        _, content = other.manifests[f"team/shop:{index.digest}"]
        assert json.loads(content)["subject"]["digest"] == subject.digest
