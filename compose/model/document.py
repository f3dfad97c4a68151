"""How a model value becomes plain JSON data: the canonical form that `config` prints.

Compose leaves out whatever is empty, zero or false, so a reader can't tell "not set" from "set to
the zero value". The few attributes where one can are added by hand.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeVar

Document = dict[str, object]
V = TypeVar("V")


class Documented(Protocol):
    def to_document(self) -> Document: ...


def filled(**fields: object) -> Document:
    """The fields that hold something, in the order given; a trailing `_` of a name is dropped."""
    return {name.rstrip("_"): value for name, value in fields.items() if value}


def mapping(values: Mapping[str, V], each: Callable[[V], object] = lambda value: value) -> Document:
    """A map with its keys in order, as JSON encoders of Compose print it."""
    return {key: each(values[key]) for key in sorted(values)} if values else {}


def documents(values: Iterable[Documented]) -> list[object]:
    return [value.to_document() for value in values]


def double_dollars(value: object) -> object:
    """A document whose text can be loaded again: `$` would begin a variable."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [double_dollars(item) for item in value]
    if isinstance(value, dict):
        return {key: double_dollars(item) for key, item in value.items()}
    return value


def number(value: float | None) -> int | float | None:
    """1.0 is printed as 1."""
    if value is None:
        return None
    value = float(value)
    return int(value) if value.is_integer() else value
