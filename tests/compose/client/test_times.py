from __future__ import annotations

import pytest

from compose.client.errors import BadAnswer
from compose.client.times import parse_time


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T00:00:00.000000007Z", 7),
        ("1970-01-01T02:00:00.1+02:00", 100_000_000),
        ("1969-12-31T19:00:00-05:00", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("", 0),
    ],
)
def test_stamps_become_nanoseconds(text: str, nanoseconds: int) -> None:
    assert parse_time(text) == nanoseconds


def test_rubbish_is_refused() -> None:
    with pytest.raises(BadAnswer, match="'yesterday' where a time belongs"):
        parse_time("yesterday")
