from __future__ import annotations

import io

import pytest

from engine.cli.progress import Screen, progress_bar


@pytest.mark.parametrize(
    ("current", "total", "shown"),
    [
        (0, 100, ""),
        (5_000_000, 0, "5MB"),
        (50, 100, "[=====>    ]  50B/100B"),
        (100, 100, "[==========]  100B/100B"),
        (300, 100, "[==========]  300B/100B"),
    ],
)
def test_bars(current: int, total: int, shown: str) -> None:
    assert progress_bar(current, total, width=10) == shown


MESSAGES: tuple[dict[str, object], ...] = (
    {"status": "Pulling from x", "id": "latest"},
    {"status": "Downloading", "id": "a", "progressDetail": {"current": 5, "total": 10}},
    {"status": "Downloading", "id": "b", "progressDetail": {"current": 1, "total": 10}},
    {"status": "Pull complete", "id": "a", "progressDetail": {}},
    {"status": "Digest: sha256:1"},
    {"stream": "Loaded image: x\n"},
)


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_the_steps_without_each_byte() -> None:
    stream = io.StringIO()
    screen = Screen(stream, quiet=False)
    for message in MESSAGES:
        screen.show(message)
    assert stream.getvalue() == (
        "latest: Pulling from x\na: Pull complete\nDigest: sha256:1\nLoaded image: x\n"
    )


def test_a_terminal_gets_a_line_for_each_layer_that_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    stream = Tty()
    screen = Screen(stream, quiet=False)
    for message in MESSAGES[1:4]:
        screen.show(message)
    assert stream.getvalue() == (
        "\n\x1b[1A\r\x1b[2Ka: Downloading [==>  ]  5B/10\x1b[1B\r"
        "\n\x1b[1A\r\x1b[2Kb: Downloading [>    ]  1B/10\x1b[1B\r"
        "\x1b[2A\r\x1b[2Ka: Pull complete\x1b[2B\r"
    )
    quiet = Tty()
    Screen(quiet, quiet=True).show(MESSAGES[0])
    assert quiet.getvalue() == ""
