"""What a person reads of a plan, with so many columns as there are."""

from __future__ import annotations

import pytest

from compose.plan.plan import Change, FieldChange, Plan, Verb
from compose.plan.text import page
from compose.position import Position


def at(line: int, file: str = "compose.yaml") -> Position:
    return Position(file, line, 5)


FIELDS = (
    FieldChange("image", "image busybox:1 -> busybox:2", at=at(3)),
    FieldChange("environment.A", "environment.A changed", ["x"], ["y", {"z": 1}], at(104)),
)
PLAN = Plan(
    "shop",
    (
        Change(Verb.CREATE, "network back", "missing", at(29)),
        Change(Verb.RECREATE, "web.1", "image busybox:1 -> busybox:2", at(3), FIELDS),
        Change(Verb.RECREATE, "web.2", "image busybox:1 -> busybox:2", at(3), FIELDS),
        Change(Verb.START, "db.1", "exited with code 137"),
    ),
)


def test_places_stand_in_a_column_and_the_same_fields_once() -> None:
    for width in (80, None):
        assert (
            page(PLAN, width)
            == """\
create network back   missing    compose.yaml:29:5
recreate web.1        2 fields changed
  image busybox:1 -> busybox:2   compose.yaml:3:5
  environment.A changed          compose.yaml:104:5
recreate web.2        2 fields changed, as of web.1
start db.1            exited with code 137
"""
        )


def test_where_there_is_no_room_it_goes_below() -> None:
    assert (
        page(PLAN, 40)
        == """\
create network back   missing
                      compose.yaml:29:5
recreate web.1        2 fields changed
  image busybox:1 -> busybox:2
                      compose.yaml:3:5
  environment.A changed
                      compose.yaml:104:5
recreate web.2        2 fields changed,
  as of web.1
start db.1            exited with code
  137
"""
    )


@pytest.mark.parametrize("width", [20, 40, 80])
def test_no_line_is_too_long(width: int) -> None:
    assert max(map(len, page(PLAN, width).splitlines())) <= width
