from __future__ import annotations

import base64
import json

import pytest

from engine.errors import InvalidRequest
from engine.oci.reference import parse_reference
from engine.registry.challenges import parse_challenges
from engine.registry.credentials import ANONYMOUS, Credentials, parse_registry_auth
from engine.registry.endpoints import HUB, Endpoint, domain_of, endpoints, may_be_plain
from engine.registry.refusals import first_error, pull_refusal
from engine.settings import Registries


def encoded(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def test_credentials_come_padded_or_not() -> None:
    for password in ("b", "bb", "bbb", "\N{EURO SIGN}>?~"):
        header = encoded({"username": "a", "password": password, "email": None, "x": 1})
        assert parse_registry_auth(header) == Credentials("a", password)
        assert parse_registry_auth(header.rstrip("=")) == Credentials("a", password)
    assert parse_registry_auth(encoded({"identitytoken": "t"})).identity_token == "t"
    assert parse_registry_auth(encoded({"registrytoken": "t"})).registry_token == "t"


@pytest.mark.parametrize(
    "header",
    ["", "e30=", "e30", "%%%", "x", encoded([]), encoded({"username": 1}), "A" * 100_000, "/w=="],
)
def test_rubbish_is_nobody(header: str) -> None:
    assert parse_registry_auth(header) == ANONYMOUS


def test_credentials_are_never_shown() -> None:
    assert "secret" not in repr(Credentials("secret", "secret", "secret", "secret"))


def test_challenges_are_read() -> None:
    bearer, basic = parse_challenges(
        ['Bearer realm="https://a/t?x=1,2",service="s \\"q\\"", scope=plain, Basic realm="r"']
    )
    assert bearer.scheme == "bearer"
    assert bearer.parameters == {"realm": "https://a/t?x=1,2", "service": 's "q"', "scope": "plain"}
    assert (basic.scheme, basic.parameters) == ("basic", {"realm": "r"})


@pytest.mark.parametrize("header", ["", ",", "=", "Bearer", 'Bearer realm="x', "Negotiate, Basic"])
def test_odd_challenges_end_somewhere(header: str) -> None:
    assert len(parse_challenges([header, header])) <= 4


def test_a_long_challenge_takes_no_long_time() -> None:
    assert len(parse_challenges(['Bearer x="' + "\\" * 30_000])) == 1


def test_docker_hub_has_another_host_and_mirrors() -> None:
    mirrors = Registries(("http://127.0.0.1:5000", "https://m.example"))
    assert endpoints("docker.io", mirrors) == (
        Endpoint("127.0.0.1:5000", ("http",), is_mirror=True),
        Endpoint("m.example", ("https",), is_mirror=True),
        Endpoint(HUB, ("https",)),
    )
    assert endpoints("reg.example", mirrors) == (Endpoint("reg.example", ("https",)),)
    assert endpoints("localhost:5000", mirrors) == (Endpoint("localhost:5000", ("https", "http")),)


@pytest.mark.parametrize(
    ("host", "plain"),
    [
        ("127.0.0.1:5000", True), ("127.9.9.9", True), ("[::1]:5000", True), ("localhost", True),
        ("reg.example:5000", True), ("reg.example", False), ("any.example:1", True),
        ("10.1.1.1:5000", True), ("11.1.1.1", False), ("127.0.0.1.example", False),
        ("localhost.example", False), ("[::2]", False),
    ],
)  # fmt: skip
def test_plain_http_is_for_this_machine_and_what_was_named(host: str, plain: bool) -> None:
    told = Registries(insecure=("reg.example:5000", "any.example", "10.0.0.0/8"))
    assert may_be_plain(host, told) is plain


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("", "docker.io"), ("https://index.docker.io/v1/", "docker.io"), (HUB, "docker.io"),
        ("reg.example:5000", "reg.example:5000"), ("https://reg.example/v2/", "reg.example"),
    ],
)  # fmt: skip
def test_a_login_names_its_registry_in_many_ways(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@pytest.mark.parametrize(
    "address",
    ["http://", "/x", "?", "#", "a b", "[::1", "host:99999", "x@y", "ü", "...", "a..b", "host:"],
)
def test_a_login_is_sent_to_no_address_that_is_none(address: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid address of a registry"):
        endpoints(domain_of(address), Registries())


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (404, b'{"errors":[{"code":"NAME_UNKNOWN","message":"m"}]}', "NotFound",
         "repository a/x not found: name unknown: m"),
        (404, b"<html>", "NotFound", "manifest for a/x:1 not found: manifest unknown: "),
        (403, b"", "NotFound", "pull access denied for a/x, repository does not exist"),
        (401, b"", "Unauthorized", "unauthorized: authentication required"),
        (429, b"", "Failure", "toomanyrequests: too many requests"),
        (502, b"null", "Failure", "received unexpected HTTP status: 502 Bad"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_dockers_words(status: int, body: bytes, kind: str, text: str) -> None:
    error = pull_refusal(status, "Bad", body, (), parse_reference("a/x:1"))
    assert (type(error).__name__, str(error)[: len(text)]) == (kind, text)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b'{"errors":1}', b'{"errors":[1]}', b'{"errors":[{"code":1}]}']
)
def test_a_body_without_an_error_has_none(body: bytes) -> None:
    assert first_error(body) == ("", "")
