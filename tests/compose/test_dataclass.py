"""Classes behave as the standard library's, whichever method is called first."""

from __future__ import annotations

import copy
import dataclasses

import pytest

from compose.dataclass import dataclass


def make_classes(make):  # type: ignore[no-untyped-def]
    @make(frozen=True, slots=True)
    class Base:
        name: str
        parts: tuple[str, ...] = ()

    @make(frozen=True, slots=True)
    class Point(Base):
        """A place."""

        x: int = 0
        seen: list[int] = dataclasses.field(default_factory=list, compare=False, kw_only=True)

        def __post_init__(self) -> None:
            self.seen.append(self.x)

    @make(slots=True, order=True)
    class Box:
        width: int
        made: int = dataclasses.field(init=False, default=7)
        inside: list[int] = dataclasses.field(init=False, default_factory=list)

        def __repr__(self) -> str:
            return f"<{self.width}>"

    @make(slots=True, eq=False)
    class Handle:
        number: int

    return Point, Box, Handle


@pytest.fixture(params=[dataclass, dataclasses.dataclass], ids=["ours", "standard"])
def classes(request):  # type: ignore[no-untyped-def]
    return make_classes(request.param)


def test_arguments_defaults_and_what_follows(classes) -> None:  # type: ignore[no-untyped-def]
    point, box, _ = classes
    one = point("a", x=3)
    assert (one.name, one.parts, one.x, one.seen) == ("a", (), 3, [3])
    assert point("a").seen is not point("a").seen
    assert box(2).made == 7
    assert box(2).inside == []
    assert point("a", seen=(given := [])).seen is given
    with pytest.raises(TypeError, match=r"Point\.__init__\(\) missing 1 required .* 'name'"):
        point()


def test_equal_is_what_has_equal_fields(classes) -> None:  # type: ignore[no-untyped-def]
    point, box, handle = classes
    assert point("a", x=1) == point("a", x=1)
    assert point("a", x=1) != point("a", x=2)
    assert point("a") != "a"
    assert len({point("a"), point("a"), point("b")}) == 2
    assert box(1) == box(1)
    assert box(1) < box(2) <= box(2)
    assert sorted([box(3), box(1)]) == [box(1), box(3)]
    with pytest.raises(TypeError, match="unhashable"):
        hash(box(1))
    one = handle(1)
    assert one != handle(1)
    assert one in {one}


def test_text_names_the_fields_unless_the_class_has_its_own(classes) -> None:  # type: ignore[no-untyped-def]
    point, box, _ = classes
    assert repr(point("a")).endswith("Point(name='a', parts=(), x=0, seen=[0])")
    assert repr(box(4)) == "<4>"


def test_frozen_refuses_changes_and_slots_unknown_names(classes) -> None:  # type: ignore[no-untyped-def]
    point, box, _ = classes
    one, two = point("a"), box(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.x = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        del one.x
    two.width = 5
    assert two.width == 5
    with pytest.raises(AttributeError):
        two.height = 5
    assert not hasattr(two, "__dict__")


def test_the_standard_functions_take_them(classes) -> None:  # type: ignore[no-untyped-def]
    point, _, _ = classes
    assert [field.name for field in dataclasses.fields(point)] == ["name", "parts", "x", "seen"]
    assert dataclasses.replace(point("a"), x=2).x == 2
    assert copy.deepcopy(point("a", x=2)) == point("a", x=2)
    match point("b", ("c",), 4):
        case point(name, parts, x):
            assert (name, parts, x) == ("b", ("c",), 4)
        case _:
            pytest.fail("it has no positions for patterns")


def test_a_class_that_inherits_calls_its_own_methods() -> None:
    point, _, _ = make_classes(dataclass)
    base = point.__mro__[1]
    assert repr(point("a", x=1)).endswith("Point(name='a', parts=(), x=1, seen=[1])")
    assert repr(base("a")).endswith("Base(name='a', parts=())")
    assert base("a") != point("a")
