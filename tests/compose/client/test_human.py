from __future__ import annotations

import pytest

from compose.client.human import ago, human_duration, shorten


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.3, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (61, "About a minute"),
        (600, "10 minutes"),
        (7200, "2 hours"),
        (86400 * 3, "3 days"),
        (86400 * 20, "2 weeks"),
        (86400 * 90, "3 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_durations_read_as_in_docker_ps(seconds: float, words: str) -> None:
    assert human_duration(seconds) == words


def test_a_clock_that_went_back_gives_no_negative_age() -> None:
    assert ago(100.0, 90.0) == "Less than a second ago"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert shorten("python3 -u /app/web.py", 20) == "python3 -u /app/web…"
    assert shorten("sh", 20) == "sh"
