"""Which addresses the engine reaches through a proxy."""

from __future__ import annotations

import pytest

from engine.errors import InvalidRequest
from engine.proxies import Proxies, parse_proxy, shown_proxy


@pytest.mark.parametrize(
    ("url", "none_for", "is_proxied"),
    [
        ("http://a.example/x", "", True),
        ("http://localhost/x", "", False),
        ("http://127.1.2.3:5000/", "", False),
        ("http://[::1]/", "", False),
        ("http://a.example/", "*", False),
        ("http://a.example/", "b.example, A.example", False),
        ("http://x.a.example/", "a.example", False),
        ("http://xa.example/", "a.example", True),
        ("http://a.example/", ".a.example", True),
        ("http://x.a.example/", ".a.example,", False),
        ("http://x.a.example/", "*.a.example", False),
        ("http://a.example:81/", "a.example:80", True),
        ("http://a.example/", "a.example:80", False),
        ("http://10.1.2.3/", "10.0.0.0/8", False),
        ("http://11.1.2.3/", "10.0.0.0/8", True),
        ("http://[fd00::1]:5000/", "fd00::/16", False),
        ("http://[fd00::1]:5000/", "[fd00::1]:5000", False),
        ("http://[fd00::1]:5000/", "fd00::1", False),
        ("http://10.1.2.3/", "nonsense/8,10.1.2.4", True),
    ],
)
def test_rule(url: str, none_for: str, is_proxied: bool) -> None:
    proxies = Proxies("http://p:1", "", none_for)
    assert bool(proxies.of(url)) is is_proxied


def test_each_scheme_has_its_own() -> None:
    proxies = Proxies("http://p:1", "http://q:2")
    assert (proxies.of("http://h/"), proxies.of("https://h/")) == ("http://p:1", "http://q:2")


def test_what_can_be_a_proxy() -> None:
    assert parse_proxy("p.example:3128") == "http://p.example:3128"
    assert parse_proxy("") == ""
    for text in ("socks5://p:1", "http://", "http://p:port", "http://p:0"):
        with pytest.raises(InvalidRequest, match="as a proxy"):
            parse_proxy(text)


def test_a_password_is_not_shown() -> None:
    assert shown_proxy("http://ann:secret@p:1") == "http://xxxxx:xxxxx@p:1"
    assert shown_proxy("http://p:1") == "http://p:1"
    with pytest.raises(InvalidRequest) as refused:
        parse_proxy("socks5://ann:secret@p")
    assert "secret" not in str(refused.value)
