from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compose.cli.lines import Prefixer
from compose.client.streams import LONGEST, LineMaker


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_chunks_of_any_size_make_the_same_lines(chunks: list[bytes]) -> None:
    def lines(parts: list[bytes]) -> list[str]:
        maker = LineMaker()
        return [line for part in parts for line in maker.feed(part)] + list(maker.flush())

    assert lines(chunks) == lines([b"".join(chunks)])


def test_a_line_without_an_end_comes_with_flush() -> None:
    maker = LineMaker()
    assert list(maker.feed(b"one\ntw")) == ["one"]
    assert list(maker.flush()) == ["tw"]
    assert list(maker.flush()) == []


def test_an_endless_line_is_not_gathered_for_ever() -> None:
    maker = LineMaker()
    assert list(maker.feed(b"x" * (LONGEST + 1))) == ["x" * (LONGEST + 1)]


def test_carriage_returns_leave_the_last_drawing() -> None:
    assert list(LineMaker().feed(b"10%\r50%\r100%\r\n")) == ["100%"]


def test_prefixes_are_aligned() -> None:
    prefixer = Prefixer(["web-1", "database-1"])
    assert prefixer.line("web-1", "hi") == "web-1       | hi"
    assert prefixer.line("database-1", "hi") == "database-1  | hi"


def test_each_name_keeps_its_colour() -> None:
    prefixer = Prefixer(["a", "b"], colour=True)
    first, second = prefixer.line("a", "1"), prefixer.line("b", "1")
    assert first[:5] != second[:5]
    assert prefixer.line("a", "2")[:5] == first[:5]


def test_without_prefix_the_text_stays_alone() -> None:
    assert Prefixer(["a"], colour=True, show=False).line("a", "text") == "text"
