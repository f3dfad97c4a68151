import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.model.units import Duration, format_duration, parse_bytes, parse_duration, seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("2b", 2),
        ("1k", 1024),
        ("1KB", 1024),
        ("64m", 64 << 20),
        ("1.5g", 3 << 29),
        ("2GiB", 2 << 30),
        ("1t", 1 << 40),
        (" 1 m ", 1 << 20),
        ("-1", -1),
        ("9223372036854775807", 9223372036854775807),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "10x", "1..5m", "m", "1mm", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0", "0s"),
        ("90s", "1m30s"),
        ("1m30s", "1m30s"),
        ("500ms", "500ms"),
        ("1500us", "1.5ms"),
        ("10us", "10µs"),
        ("1.5h", "1h30m0s"),
        ("1w2d", "216h0m0s"),
        ("1h0.5s", "1h0m0.5s"),
        ("100ns", "100ns"),
    ],
)
def test_durations_are_shown_as_compose_does(text: str, shown: str) -> None:
    assert format_duration(parse_duration(text)) == shown


@pytest.mark.parametrize("text", ["", "10", "1.5", "s", "1x", "1s 2s", "1m30", "soon"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|unit"):
        parse_duration(text)


def test_seconds_of_a_duration() -> None:
    assert seconds(parse_duration("1m0.5s")) == 60.5


@given(st.integers(0, 10**18))
def test_a_shown_duration_is_read_back(nanoseconds: int) -> None:
    again = parse_duration(format_duration(Duration(nanoseconds)))
    # The fraction passes through a float.
    assert abs(again - nanoseconds) <= 1
