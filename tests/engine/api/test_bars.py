from __future__ import annotations

import pytest

from engine.api.bars import progress_bar


@pytest.mark.parametrize(
    ("current", "total", "text"),
    [
        (0, 100, "[>" + " " * 50 + "]       0B/100B"),
        (1_500_000, 3_000_000, "[" + "=" * 25 + ">" + " " * 25 + "]    1.5MB/3MB"),
        (2048, 2048, "[" + "=" * 50 + ">]  2.048kB/2.048kB"),
        (3_100_000_000, 0, "   3.1GB"),
        (20, 10, "[" + "=" * 50 + ">]      20B"),
    ],
)
def test_a_bar_is_as_long_as_what_is_done(current: int, total: int, text: str) -> None:
    assert progress_bar(current, total) == text
