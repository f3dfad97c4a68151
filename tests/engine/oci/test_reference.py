from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.oci.reference import Reference, parse_reference, parse_tag

DIGEST = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("nginx", "docker.io/library/nginx", "nginx"),
        ("nginx:1", "docker.io/library/nginx:1", "nginx:1"),
        ("user/app:x", "docker.io/user/app:x", "user/app:x"),
        ("docker.io/nginx", "docker.io/library/nginx", "nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx", "nginx"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("host:5000/app:1", "host:5000/app:1", "host:5000/app:1"),
        ("reg.example/a/b/c", "reg.example/a/b/c", "reg.example/a/b/c"),
        ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app"),
        ("HOST/app", "HOST/app", "HOST/app"),
        (f"app@{DIGEST}", f"docker.io/library/app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
        ("a--b__c.d", "docker.io/library/a--b__c.d", "a--b__c.d"),
    ],
)
def test_names_are_normalised(text: str, full: str, familiar: str) -> None:
    reference = parse_reference(text)
    assert str(reference) == full
    assert reference.familiar == familiar
    assert parse_reference(familiar) == reference
    assert parse_reference(full) == reference


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        (":1", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a/", "invalid reference format"),
        ("/a", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:-x", "invalid reference format"),
        ("a:" + "x" * 129, "invalid reference format"),
        ("a@sha256:short", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("a:1\n", "invalid reference format"),
        ("é", "invalid reference format"),
        ("http://host/app", "invalid reference format"),
        ("App", "invalid reference format: repository name (library/App) must be lowercase"),
        ("x/App:1", "invalid reference format: repository name (x/App) must be lowercase"),
        ("0" * 64, f"invalid repository name ({'0' * 64}), cannot specify 64-byte hexadecimal"),
        ("a" * 300, "repository name must not be more than 255 characters"),
        ("a" * 5000, "invalid reference format"),
        ("a@sha512:" + "0" * 128, "unsupported digest algorithm: sha512"),
        ("a@sha256:" + "0" * 63, "invalid checksum digest length"),
        ("a@sha256:" + "A" * 64, "invalid checksum digest"),
    ],
)
def test_what_is_no_name(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_reference(text)
    assert str(refused.value).startswith(message)


def test_the_default_tag_is_latest() -> None:
    assert str(parse_reference("a").with_default_tag()) == "docker.io/library/a:latest"
    assert parse_reference(f"a@{DIGEST}").with_default_tag().tag == ""
    assert parse_reference("a:1").with_default_tag().tag == "1"
    with pytest.raises(InvalidRequest, match="invalid tag format"):
        parse_tag("a b")


words = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)?", fullmatch=True).filter(lambda w: len(w) < 40)


@given(
    st.sampled_from(["docker.io", "localhost", "a.example", "host:1"]),
    st.lists(words, min_size=2, max_size=4).map("/".join),
    st.sampled_from(["", "1", "x-y_Z.0"]),
    st.sampled_from(["", DIGEST]),
)
def test_what_is_written_is_parsed_again(domain: str, path: str, tag: str, digest: str) -> None:
    reference = Reference(domain, path, tag, digest)
    assert parse_reference(str(reference)) == reference
    assert parse_reference(reference.familiar) == reference


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except InvalidRequest:
        return
    assert parse_reference(str(reference)) == reference
