from __future__ import annotations

import time

import pytest

from compose.client.moments import api_time
from compose.errors import UsageError


def test_seconds_stay_as_they_are() -> None:
    assert api_time("", "--since") == ""
    assert api_time("1700000000.25", "--since") == "1700000000.25"


def test_a_duration_is_that_long_ago() -> None:
    before = time.time()
    moment = float(api_time("1h30m", "--since"))
    assert before - 5400 - 1 <= moment <= time.time() - 5400 + 1


def test_nanoseconds_of_a_stamp_are_kept() -> None:
    assert api_time("2023-11-14T22:13:20.123456789Z", "--until") == "1700000000.123456789"
    assert api_time("2023-11-14T23:13:20.5+01:00", "--until") == "1700000000.500000000"


def test_anything_else_is_refused_with_an_example() -> None:
    with pytest.raises(UsageError, match=r"--since: cannot read 'soon' as a time"):
        api_time("soon", "--since")
