from __future__ import annotations

import pytest

from compose.cli.render import fitted, kept, table


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    assert table(("NAME", "STATUS"), [("web", "Up"), ("database", "")]) == (
        "NAME       STATUS\nweb        Up\ndatabase"
    )


@pytest.mark.parametrize(
    ("widths", "room", "expected"),
    [
        ([10, 20], 33, [10, 20]),
        ([10, 20], 30, [10, 17]),
        ([20, 20, 5], 40, [14, 15, 5]),
        ([9, 9], 3, [8, 8]),
    ],
)
def test_the_widest_columns_give_way(widths: list[int], room: int, expected: list[int]) -> None:
    assert fitted(widths, room) == expected


def test_firm_columns_give_way_last() -> None:
    assert fitted([20, 20, 20], 50, [0]) == [20, 12, 12]
    assert fitted([20, 20, 20], 40, [0]) == [18, 8, 8]


@pytest.mark.parametrize(
    ("room", "expected"),
    [(45, [0, 1, 2, 3]), (44, [0, 2, 3]), (34, [0, 2, 3]), (33, [0, 2]), (9, [0, 2])],
)
def test_spare_columns_go_before_firm_ones_are_cut(room: int, expected: list[int]) -> None:
    headers = ("NAME", "COMMAND", "STATUS", "IMAGE")
    places = kept(headers, [10, 30, 10, 20], room, ("NAME", "STATUS"), ("COMMAND", "IMAGE"))
    assert places == expected
