"""Digests, configurations, manifests and platforms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.oci.digest import chain_id, digest_of, parse_digest
from engine.oci.image_config import (
    Healthcheck,
    HistoryEntry,
    ImageConfig,
    ImageDocument,
    image_document_json,
    parse_image_document,
)
from engine.oci.manifest import (
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    index_json,
    manifest_json,
    parse_manifest,
)
from engine.oci.platform import Platform, best_match, parse_platform, platform_of

D1, D2 = digest_of(b"1"), digest_of(b"2")


@pytest.mark.parametrize(
    "text",
    ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "0" * 65, "sha256:" + "A" * 64,
     "sha256:../../etc/passwd", "SHA256:" + "0" * 64, "md5:" + "0" * 32, "0" * 64,
     "sha256:" + "0" * 64 + "\n", "sha512:" + "0" * 128],
)  # fmt: skip
def test_only_sha256_becomes_a_file_name(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_digest(text)


def test_the_identity_of_a_stack() -> None:
    assert chain_id((D1,)) == D1
    assert chain_id((D1, D2)) == digest_of(f"{D1} {D2}".encode())


texts = st.lists(st.text(st.characters(codec="utf-8"), max_size=10), max_size=3).map(tuple)
configs = st.builds(
    ImageConfig,
    env=texts,
    cmd=texts,
    entrypoint=texts,
    user=st.text(st.characters(codec="utf-8"), max_size=5),
    volumes=texts.map(lambda values: tuple(sorted(set(values)))),
    labels=st.dictionaries(st.text(st.characters(codec="utf-8")), st.just("x"), max_size=3),
    healthcheck=st.none() | st.builds(Healthcheck, texts, st.integers(0, 10**12)),
    on_build=texts,
    args_escaped=st.booleans(),
)


@settings(deadline=None)
@given(configs)
def test_a_configuration_is_read_as_it_was_written(config: ImageConfig) -> None:
    document = ImageDocument(
        platform=Platform("linux", "arm64", "v8"),
        config=config,
        diff_ids=(D1, D2),
        history=(HistoryEntry("2026-01-01T00:00:00Z", "RUN x"), HistoryEntry(empty_layer=True)),
        created="2026-01-01T00:00:00Z",
    )
    assert parse_image_document(image_document_json(document)) == document


@pytest.mark.parametrize(
    "text",
    [
        "null", "[]", "{}", '{"rootfs":null}', '{"rootfs":{"type":"zfs"}}',
        '{"rootfs":{"type":"layers","diff_ids":["md5:00"]}}',
        '{"rootfs":{"type":"layers","diff_ids":[null]}}',
        '{"rootfs":{"type":"layers"},"config":[]}',
        '{"rootfs":{"type":"layers"},"config":{"Env":"x"}}',
        '{"rootfs":{"type":"layers"},"config":{"Env":[1]}}',
        '{"rootfs":{"type":"layers"},"config":{"Healthcheck":{"Interval":1.5}}}',
        '{"rootfs":{"type":"layers"},"config":{"Healthcheck":{"Interval":NaN}}}',
        '{"rootfs":{"type":"layers"},"config":{"User":"\\ud800"}}',
        '{"rootfs":{"type":"layers"},"history":[null]}',
        '{"a":' * 100_000,
        '{"rootfs":{"type":"layers"},"config":{"Healthcheck":{"Interval":' + "9" * 5000 + "}}}",
    ],
)  # fmt: skip
def test_a_broken_configuration_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_image_document(text.encode())


def test_old_images_hold_a_string_as_command() -> None:
    document = {"rootfs": {"type": "layers"}, "config": {"Cmd": "run", "Entrypoint": None}}
    assert parse_image_document(json.dumps(document).encode()).config.cmd == ("run",)


def test_manifests_are_read_as_they_were_written() -> None:
    manifest = Manifest(
        OCI_MANIFEST,
        Descriptor("application/vnd.oci.image.config.v1+json", D1, 10),
        (Descriptor(OCI_LAYER, D2, 20, annotations=(("a", "b"),)),),
    )
    assert parse_manifest(manifest_json(manifest)) == manifest
    index = Index(OCI_INDEX, (Descriptor(OCI_MANIFEST, D1, 1, Platform("linux", "arm", "v7")),))
    assert parse_manifest(index_json(index), OCI_INDEX) == index


def _manifest(**fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, **fields}).encode()


CONFIG = {"mediaType": "x", "digest": D1, "size": 1}


@pytest.mark.parametrize(
    ("content", "sent_as", "reason"),
    [
        (_manifest(layers=[], manifests=[]), "", "both layers and manifests"),
        (_manifest(config=CONFIG, layers=[]), OCI_INDEX, "sent as"),
        (_manifest(mediaType=OCI_INDEX, layers=[]), "", "unsupported manifest media type"),
        (_manifest(manifests=[]), "", "unsupported manifest media type"),
        (_manifest(schemaVersion=1, layers=[]), "", "schema version 2"),
        (_manifest(layers=[]), "", "invalid checksum digest format"),
        (_manifest(config={**CONFIG, "size": -1}), "", "size -1"),
        (_manifest(config={**CONFIG, "digest": "md5:" + "0" * 32}), "", "unsupported digest"),
        (_manifest(config=CONFIG, layers=[{**CONFIG, "mediaType": "text/html"}]), "", "text/html"),
        (_manifest(config=CONFIG, layers=[None]), "", "expected an object, got null"),
        (b"null", "", "expected an object, got null"),
        (b" " * (5 << 20), "", "at most"),
        (b"\xff\xfe", "", "no valid JSON"),
    ],
)
def test_a_broken_manifest_is_refused(content: bytes, sent_as: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_manifest(content, sent_as)


def test_machines_are_called_by_one_name() -> None:
    assert platform_of("linux", "x86_64") == Platform("linux", "amd64")
    assert platform_of("Linux", "aarch64") == Platform("linux", "arm64", "v8")
    here = Platform("linux", "amd64")
    assert parse_platform("linux/arm/v6", here) == Platform("linux", "arm", "v6")
    assert parse_platform("arm64", here) == Platform("linux", "arm64", "v8")
    assert parse_platform("LINUX", here) == here
    assert parse_platform("macos", here) == Platform("darwin", "amd64")
    assert parse_platform("linux/sparc64", here) == Platform("linux", "sparc64")
    assert str(parse_platform("linux/amd64", here)) == "linux/amd64"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "is an invalid OS component"),
        (" ", "is an invalid OS component"),
        ("linux/", "is an invalid component"),
        ("linux/amd 64", "is an invalid component"),
        ("a/b/c/d", "cannot parse platform specifier"),
        ("nintendo64", "unknown operating system or architecture"),
    ],
)
def test_a_platform_that_is_none_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_platform(text, Platform("linux", "amd64"))


def test_the_nearest_variant_runs() -> None:
    offered = [Platform("linux", "amd64"), Platform("linux", "arm", "v5"),
               Platform("linux", "arm", "v6"), Platform("windows", "amd64")]  # fmt: skip
    assert best_match(Platform("linux", "arm", "v7"), offered) == 2
    assert best_match(Platform("linux", "amd64"), offered) == 0
    assert best_match(Platform("linux", "arm64", "v8"), offered) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("arm64", "linux/arm64"), ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v9", "linux/arm64/v9"), ("linux/arm", "linux/arm/v7"),
    ],
)  # fmt: skip
def test_an_arm64_is_told_without_the_variant_that_all_have(text: str, told: str) -> None:
    assert str(parse_platform(text, Platform("linux", "amd64")).as_told()) == told
