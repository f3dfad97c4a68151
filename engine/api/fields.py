"""Strict reading of a JSON object: a field has its type, or the client is told which one hasn't.

null counts as not given, as in Go. Unknown fields are let through: newer clients send some.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import InvalidRequest


class Fields:
    def __init__(self, document: Mapping[str, object], path: str = "") -> None:
        self._document = document
        self._path = path
        self._folded: dict[str, object] | None = None

    def _get(self, key: str) -> object:
        """As in Go, the case of letters doesn't count: docker-py sends `detachKeys`."""
        if key in self._document:
            return self._document[key]
        if self._folded is None:
            self._folded = {name.lower(): value for name, value in self._document.items()}
        return self._folded.get(key.lower())

    def __contains__(self, key: str) -> bool:
        return self._get(key) is not None

    def names(self) -> tuple[str, ...]:
        return tuple(self._document)

    def empties(self) -> tuple[str, ...]:
        """The fields that were given as [] or {}."""
        return tuple(key for key, value in self._document.items() if value in ([], {}))

    def wrong(self, key: str, expected: str) -> InvalidRequest:
        given = self._get(key)
        return InvalidRequest(
            f"invalid value of {self._path}{key}: it has to be {expected}, not {_said(given)}"
        )

    def text(self, key: str, default: str = "") -> str:
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def integer(self, key: str, default: int = 0, *, low: int | None = None) -> int:
        found = self.optional_integer(key, low=low)
        return default if found is None else found

    def optional_integer(self, key: str, *, low: int | None = None) -> int | None:
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "an integer")
        if low is not None and value < low:
            raise self.wrong(key, f"at least {low}")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        found = self.optional_flag(key)
        return default if found is None else found

    def optional_flag(self, key: str) -> bool | None:
        value = self._get(key)
        if value is None or isinstance(value, bool):
            return value
        raise self.wrong(key, "true or false")

    def texts(self, key: str) -> tuple[str, ...]:
        return self.optional_texts(key) or ()

    def optional_texts(self, key: str) -> tuple[str, ...] | None:
        value = self._get(key)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(key, "a list of strings")
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(item) is int for item in value):
            raise self.wrong(key, "a list of integers")
        return tuple(value)

    def lists(self, key: str) -> tuple[tuple[str, ...], ...]:
        """Lists of strings in a list."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(
            isinstance(row, list) and all(isinstance(item, str) for item in row) for row in value
        ):
            raise self.wrong(key, "a list of lists of strings")
        return tuple(tuple(row) for row in value)

    def words(self, key: str) -> tuple[str, ...] | None:
        """A command: a list, or one string standing for a list of one."""
        value = self._get(key)
        return (value,) if isinstance(value, str) else self.optional_texts(key)

    def text_map(self, key: str) -> dict[str, str]:
        value = self._get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
            raise self.wrong(key, "an object of strings")
        return value

    def inside(self, key: str) -> Fields:
        """The object at `key`; an empty one where it isn't given."""
        value = self._get(key)
        if value is None:
            return Fields({}, f"{self._path}{key}.")
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(value, f"{self._path}{key}.")

    def each(self, key: str) -> tuple[Fields, ...]:
        """The objects of a list."""
        value = self._get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "a list of objects")
        return tuple(
            Fields(item, f"{self._path}{key}[{index}].") for index, item in enumerate(value)
        )

    def objects(self, key: str) -> tuple[Mapping[str, object], ...]:
        """The same, unread."""
        return tuple(fields._document for fields in self.each(key))

    def set_of(self, key: str) -> tuple[str, ...]:
        """A set in Go's manner: {"80/tcp": {}}."""
        return self.inside(key).names()


def _said(value: object) -> str:
    if isinstance(value, str):
        return f'"{value[:40]}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list with other things" if value else "a list"
    return str(value)
