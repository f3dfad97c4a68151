from __future__ import annotations

import pytest

from engine.api.request import Query, parse_json
from engine.errors import InvalidRequest


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b'{"a":NaN}', b'{"a":Infinity}', b'{"a":-Infinity}', b"{'a':1}", b"{} {}",
        b'{"a":99999999999999999999999}', b'{"a":' + b"9" * 5000 + b"}", b"[" * 100_000,
        b'{"a":"\\u0000"}', b'{"a":"\\ud800"}', b'{"\\udfff":1}', b'{"a":"\xff"}', b'{"a":"\x00"}',
        b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_json_that_could_surprise_is_refused(raw: bytes) -> None:
    """isolation 55"""
    with pytest.raises(InvalidRequest, match=r"invalid JSON|unexpected content"):
        parse_json(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{invalid", "invalid character 'i' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a": x}', "invalid character 'x' looking for beginning of value"),
        (b'{"a": 1', r"unexpected EOF \(line 1, column 8\)"),
        (b'{"a": "', "unexpected EOF"),
    ],
)
def test_bad_json_is_told_in_words_that_clients_know(raw: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=f"invalid JSON: {words}"):
        parse_json(raw)


def test_json_is_read() -> None:
    text = '{"a": [1, -2.5, true, null, "\\u00e4 \\ud83d\\ude00"]}'
    assert parse_json(text.encode()) == {"a": [1, -2.5, True, None, "ä 😀"]}


@pytest.mark.parametrize("text", ["", "0", "false", "no", "none", "False", " NO "])
def test_these_mean_no(text: str) -> None:
    assert Query(f"all={text}").flag("all") is False


@pytest.mark.parametrize("text", ["1", "true", "yes", "True", "x"])
def test_everything_else_means_yes(text: str) -> None:
    assert Query(f"all={text}").flag("all") is True


def test_the_first_of_several_values_counts() -> None:
    query = Query("a=1&a=2")
    assert query.text("a") == "1"
    assert query.texts("a") == ("1", "2")


def test_texts_are_unquoted() -> None:
    assert Query("name=a%20b%2Fc+d").text("name") == "a b/c d"


@pytest.mark.parametrize("text", ["a=%ff", "a=%00", "&".join(f"a{n}=1" for n in range(2000))])
def test_a_bad_query_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="query"):
        Query(text)


@pytest.mark.parametrize("text", ["x", "1.5", "1e3", "+1", "9" * 30, "\u0661"])
def test_a_number_has_to_be_one(text: str) -> None:
    with pytest.raises(InvalidRequest, match="'t'"):
        Query(f"t={text.replace('+', '%2B')}").integer("t")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", 0), ("0", 0), ("1", 10**9), ("1.5", 1_500_000_000), ("1.000000001", 10**9 + 1),
        ("1763772000.079667626", 1763772000079667626), ("-62135596800.000000000", 0),
    ],
)  # fmt: skip
def test_times_are_seconds_with_a_fraction(text: str, nanoseconds: int) -> None:
    assert Query(f"since={text}").seconds("since") == nanoseconds


def test_a_time_has_to_be_one() -> None:
    with pytest.raises(InvalidRequest, match="'since'"):
        Query("since=yesterday").seconds("since")
