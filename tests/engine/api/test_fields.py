from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.api.fields import Fields
from engine.errors import InvalidRequest

READERS: dict[str, Callable[[Fields], object]] = {
    "text": lambda fields: fields.text("A"),
    "integer": lambda fields: fields.integer("A"),
    "flag": lambda fields: fields.flag("A"),
    "texts": lambda fields: fields.texts("A"),
    "words": lambda fields: fields.words("A"),
    "text_map": lambda fields: fields.text_map("A"),
    "inside": lambda fields: fields.inside("A"),
    "each": lambda fields: fields.each("A"),
    "integers": lambda fields: fields.integers("A"),
    "lists": lambda fields: fields.lists("A"),
}
FITS: dict[str, list[object]] = {
    "text": [""],
    "integer": [3, -1],
    "flag": [True, False],
    "texts": [["a"], []],
    "words": [["a"], "a", [], ""],
    "text_map": [{"a": "b"}, {}],
    "inside": [{"a": "b"}, {}, {"a": 1}],
    "each": [[], [{}]],
    "integers": [[], [1]],
    "lists": [[], [["a"]]],
}
VALUES: list[object] = [
    "", "a", 3, -1, 1.5, True, False, [], ["a"], [1], [None], [{}], [["a"]], {}, {"a": "b"},
    {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_has_its_type_or_is_refused_by_name(reader: str, value: object) -> None:
    read = READERS[reader]
    fields = Fields({"HostConfig": {"A": value}}).inside("HostConfig")
    if any(value == fit and type(value) is type(fit) for fit in FITS[reader]) or (
        reader == "text" and isinstance(value, str)
    ):
        read(fields)
    else:
        with pytest.raises(InvalidRequest, match=r"^invalid value of HostConfig\.A: it has to be"):
            read(fields)


@pytest.mark.parametrize("reader", READERS)
def test_null_counts_as_not_given(reader: str) -> None:
    absent, null = Fields({}), Fields({"A": None})
    first, second = READERS[reader](absent), READERS[reader](null)
    assert isinstance(first, Fields) or first == second


def test_the_place_in_a_list_is_named() -> None:
    mounts = Fields({"Mounts": [{}, {"Target": 1}]}).each("Mounts")
    with pytest.raises(InvalidRequest, match=r"Mounts\[1\]\.Target: it has to be a string, not 1"):
        mounts[1].text("Target")


def test_a_bound_is_kept() -> None:
    with pytest.raises(InvalidRequest, match="at least 0"):
        Fields({"A": -1}).integer("A", low=0)


def test_the_case_of_a_name_does_not_count_as_in_go() -> None:
    fields = Fields({"detachKeys": "ctrl-x", "tty": False, "Tty": True})
    assert fields.text("DetachKeys") == "ctrl-x"
    assert fields.flag("Tty")
    assert "DETACHKEYS" in fields
