from __future__ import annotations

import pytest

from engine.errors import InvalidRequest
from engine.filters import (
    Filters,
    has_label,
    matches_container_name,
    matches_name,
    parse_filters,
    parse_until,
)

NOW = 1_700_000_000 * 10**9


@pytest.mark.parametrize("text", ['{"label":["a=b","c"]}', '{"label":{"a=b":true,"c":true}}'])
def test_both_wire_forms_mean_the_same(text: str) -> None:
    assert parse_filters(text).get("label") == ("a=b", "c")


def test_a_value_that_is_off_does_not_count() -> None:
    assert parse_filters('{"label":{"a":true,"b":false}}').get("label") == ("a",)


@pytest.mark.parametrize("text", ["", "{}", "null"])
def test_nothing_asked_is_no_filter(text: str) -> None:
    assert not parse_filters(text)


@pytest.mark.parametrize("text", ["x", "[]", "1", '{"a":', "[" * 100_000])
def test_bad_json_is_an_invalid_filter(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^invalid filter$"):
        parse_filters(text)


@pytest.mark.parametrize("text", ['{"a":1}', '{"a":[1]}', '{"a":{"b":"c"}}', '{"a":"b"}'])
def test_values_have_their_types(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^invalid filter 'a'$"):
        parse_filters(text)


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(InvalidRequest, match=r"^invalid filter 'nosuch'$"):
        Filters({"nosuch": ("x",)}).check({"label"})


def test_values_of_one_key_are_alternatives() -> None:
    filters = Filters({"id": ("a", "b")})
    assert filters.any("id", "bcd".startswith)
    assert not filters.any("id", "xyz".startswith)
    assert filters.any("name", lambda value: False)


def test_all_labels_have_to_match_and_no_refused_one() -> None:
    labels = {"a": "1", "b": "2"}
    assert Filters({"label": ("a", "b=2")}).labels(labels)
    assert not Filters({"label": ("a", "b=3")}).labels(labels)
    assert not Filters({"label!": ("b",)}).labels(labels)
    assert Filters({"label!": ("b=3",)}).labels(labels)


def test_a_label_value_may_hold_an_equals_sign() -> None:
    assert has_label({"a": "b=c"}, "a=b=c")
    assert has_label({"a": ""}, "a=")
    assert not has_label({"a": "b"}, "a=")


@pytest.mark.parametrize(("value", "meant"), [("true", True), ("1", True), ("0", False)])
def test_a_flag_has_several_spellings(value: str, meant: bool) -> None:
    assert Filters({"dangling": (value,)}).flag("dangling") is meant


def test_a_flag_that_is_neither_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"dangling=.maybe."):
        Filters({"dangling": ("maybe",)}).flag("dangling")


def test_a_choice_says_what_it_could_be() -> None:
    message = "invalid value for state .xx.: must be one of created, running"
    with pytest.raises(InvalidRequest, match=message):
        Filters({"status": ("xx",)}).choice("status", "state", ["created", "running"])


@pytest.mark.parametrize("pattern", ["^/?web$", "web", "/web", "^/web$", "we", "^web$"])
def test_a_container_name_counts_with_and_without_its_slash(pattern: str) -> None:
    assert matches_container_name("web", pattern)


@pytest.mark.parametrize("pattern", ["^we$", "^/?we$", "(", "webs"])
def test_a_name_that_is_not_meant_does_not_match(pattern: str) -> None:
    assert not matches_container_name("web", pattern)


def test_a_name_is_found_whatever_it_would_be_as_a_pattern() -> None:
    assert matches_name("a(b", "a(b")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("10m", NOW - 600 * 10**9),
        ("1h30m", NOW - 5400 * 10**9),
        ("1.5s", NOW - 1_500_000_000),
        ("1699999999", 1_699_999_999 * 10**9),
        ("1699999999.5", 1_699_999_999_500_000_000),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14T22:13:20+00:00", NOW),
    ],
)
def test_until_is_a_moment_or_an_age(text: str, moment: int) -> None:
    assert parse_until(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "x", "10x", "-5m", "1" * 40, "1..5s", "2023-W01-1"])
def test_until_has_to_be_one(text: str) -> None:
    with pytest.raises(InvalidRequest, match="time or duration"):
        parse_until(text, NOW)
