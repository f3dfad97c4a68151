"""Reads the attributes of one mapping as the types of the model, and says what can't be read so.

What the schema let through is still text where ${NAME} was: numbers and truths are parsed here.
"""

import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from compose.load.nearest import nearest
from compose.load.short import BadSyntax, check_host_ip, is_windows_path
from compose.load.tree import Broken, Map, Node, Problems, Scalar, Sequence, spelled
from compose.model.project import Place
from compose.model.units import Bytes, Duration, parse_bytes, parse_duration

T = TypeVar("T")
_TRUE = frozenset(["true", "1", "t", "y", "yes", "on"])
_FALSE = frozenset(["false", "0", "f", "n", "no", "off"])
_OLD_TRUTHS = frozenset(["y", "yes", "on", "n", "no", "off"])


class Fields:
    """The entries of a mapping. A missing one gives the default; a wrong one too, and a problem."""

    __slots__ = ("_entries", "node", "place", "problems")

    def __init__(self, node: Map, place: Place, problems: Problems) -> None:
        self.node, self.place, self.problems = node, place, problems
        self._entries = node.entries

    def __contains__(self, key: str) -> bool:
        """Written, be it right or wrong."""
        node = self._entries.get(key)
        return node is not None and not (isinstance(node, Scalar) and node.value is None)

    def names(self) -> Iterator[str]:
        return iter(self._entries)

    def add(self, key: str, what: str, hint: str = "") -> None:
        node = self._entries.get(key)
        where = node if isinstance(node, Scalar) else self.node.keys.get(key, self.node)
        self.problems.add(where, (*self.place, key), what, hint)

    def add_item(self, key: str, index: int, what: str, hint: str = "") -> None:
        """A problem with one entry of a list."""
        node = self._entries[key]
        where = node.items[index] if isinstance(node, Sequence) else node
        self.problems.add(where, (*self.place, key, index), what, hint)

    def scalar(self, key: str) -> Scalar | None:
        node = self._entries.get(key)
        return node if isinstance(node, Scalar) and node.value is not None else None

    def text(self, key: str, default: str = "") -> str:
        node = self._entries.get(key)
        if isinstance(node, Scalar) and node.value is not None:
            value = node.value
            return value if type(value) is str else spelled(value)
        return default

    def required(self, key: str, hint: str) -> str:
        if key not in self:
            self.problems.add(self.node, self.place, f'"{key}" is missing', hint)
        return self.text(key)

    def flag(self, key: str) -> bool:
        return self.optional_flag(key) or False

    def optional_flag(self, key: str) -> bool | None:
        node = self.scalar(key)
        if node is None:
            return None
        if isinstance(node.value, bool):
            return node.value
        text = spelled(node.value).lower()
        if text in _OLD_TRUTHS:
            self.problems.warn(
                node,
                (*self.place, key),
                f'"{text}" is taken as {"true" if text in _TRUE else "false"}',
                "write true or false",
            )
        if text in _TRUE:
            return True
        if text not in _FALSE:
            self.add(key, f'"{text}" is neither true nor false', "write true or false")
        return False

    def whole(self, key: str) -> int | None:
        node = self.scalar(key)
        return None if node is None else self._whole(node, key)

    def _whole(self, node: Scalar, key: str) -> int | None:
        value = node.value
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        text = spelled(value).strip()
        if re.fullmatch(r"[-+]?\d{1,18}", text):
            return int(text)
        self.add(key, f'"{text}" isn\'t a whole number', "write digits only")
        return None

    def whole_or(self, key: str, default: int) -> int:
        value = self.whole(key)
        return default if value is None else value

    def count(self, key: str) -> int | None:
        """A whole number that isn't negative."""
        value = self.whole(key)
        if value is not None and value < 0:
            self.add(key, f"{value} is negative: it must be 0 or more")
            return None
        return value

    def number(self, key: str) -> float | None:
        node = self.scalar(key)
        if node is None:
            return None
        try:
            value = float(spelled(node.value))
            if not math.isfinite(value):
                raise ValueError(value)
            return value
        except ValueError:
            self.add(key, f'"{spelled(node.value)}" isn\'t a number', 'write it as in "0.5"')
            return None

    def share(self, key: str) -> float | None:
        """A number that isn't negative."""
        value = self.number(key)
        if value is not None and value < 0:
            self.add(key, f"{value:g} is negative: it must be 0 or more")
            return None
        return value

    def address(self, key: str, hint: str = "write an address inside the subnet") -> str:
        """An IP address."""
        address = self.text(key)
        try:
            check_host_ip(address)
        except BadSyntax as error:
            self.add(key, error.what, hint)
        return address

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        given = self.text(key)
        if given and given not in allowed:
            close = nearest(given, allowed)
            choices = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
            hint = f'did you mean "{close}"?' if close else ""
            self.add(key, f'"{given}" isn\'t allowed: it must be {choices}', hint)
        return given

    def size(self, key: str) -> Bytes | None:
        node = self.scalar(key)
        if node is None:
            return None
        try:
            return parse_bytes(node.text if isinstance(node.value, float) else spelled(node.value))
        except ValueError:
            self.add(
                key,
                f'"{spelled(node.value)}" isn\'t a size',
                "write bytes, or a number with b, k, m, g or t, as in 512m or 1.5g",
            )
            return None

    def duration(self, key: str) -> Duration | None:
        node = self.scalar(key)
        if node is None:
            return None
        text = spelled(node.value)
        try:
            duration = parse_duration(text)
        except ValueError:
            if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
                self.add(key, f'the time "{text}" has no unit', f'write "{text.strip()}s"')
            else:
                self.add(key, f'"{text}" isn\'t a time', 'write it as in "500ms", "30s" or "1m30s"')
            return None
        if duration < 0:
            self.add(key, f'the time "{text}" is negative')
            return None
        return duration

    def texts(self, key: str) -> tuple[str, ...]:
        node = self._entries.get(key)
        if not isinstance(node, Sequence):
            return ()
        return tuple(spelled(item.value) for item in node.items if isinstance(item, Scalar))

    def arguments(self, key: str) -> tuple[str, ...] | None:
        """A command: None when it isn't set."""
        return self.texts(key) if isinstance(self._entries.get(key), Sequence) else None

    def pairs(self, key: str) -> dict[str, str]:
        node = self._entries.get(key)
        if not isinstance(node, Map):
            return {}
        return {
            name: spelled(value.value)
            for name, value in node.entries.items()
            if isinstance(value, Scalar)
        }

    def variables(self, key: str) -> dict[str, str | None]:
        """Names and values; a name without a value takes that of the environment, if it has one."""
        node = self._entries.get(key)
        found: dict[str, str | None] = {}
        if isinstance(node, Map):
            for name, value in node.entries.items():
                if not isinstance(value, Scalar):
                    continue
                if value.value is None:
                    found[name] = value.source.environment.get(name)
                else:
                    found[name] = spelled(value.value)
        return found

    def inner(self, key: str) -> "Fields | None":
        node = self._entries.get(key)
        if not isinstance(node, Map):
            return None
        return Fields(node, (*self.place, key), self.problems)

    def one(self, key: str, bind: Callable[["Fields"], T]) -> T | None:
        """A mapping as a value of the model; None when it isn't there."""
        inner = self.inner(key)
        return bind(inner) if inner is not None else None

    def each(self, key: str) -> Iterator["Fields"]:
        """The mappings of a list."""
        node = self._entries.get(key)
        for index, item in enumerate(node.items if isinstance(node, Sequence) else ()):
            if isinstance(item, Map):
                yield Fields(item, (*self.place, key, index), self.problems)

    def named(self, key: str) -> Iterator[tuple[str, "Fields"]]:
        """The entries of a mapping that are mappings themselves, or empty."""
        node = self._entries.get(key)
        if not isinstance(node, Map):
            return
        for name, value in node.entries.items():
            if isinstance(value, Broken | Sequence):
                continue
            inner = value if isinstance(value, Map) else _empty(node, name, value)
            yield name, Fields(inner, (*self.place, key, name), self.problems)

    def path(self, key: str) -> str:
        """An absolute path; relative ones start at the folder that the file's paths start from."""
        node = self.scalar(key)
        return absolute(spelled(node.value), node) if node is not None else ""


def _empty(parent: Map, name: str, value: Scalar) -> Map:
    place = parent.keys.get(name, value)
    return Map(value.source, place.line, place.column, {}, {})


def absolute(text: str, node: Node) -> str:
    """What stands after a `~` or below the project is made tidy; an absolute path stays as it was
    written, as in Compose: the config hash has it."""
    if not text or text.startswith("/") or is_windows_path(text):
        return text
    if text == "~" or text.startswith("~/"):
        home = node.source.environment.get("HOME") or str(Path.home())
        text = home + text[1:]
    return os.path.normpath(os.path.join(node.source.base, text))
