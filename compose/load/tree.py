"""YAML text -> a tree whose every key and value knows the file, line and column it came from.

Built straight from the C parser's events. Nodes are never changed once made: every later phase
(interpolate, canonical, extends, merge) makes new ones that keep the old places. Scalars follow
YAML 1.2's core schema, as Compose reads them: `yes` is text, `0o17` and `017` are 15.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, cast

import yaml
from yaml import cyaml

from compose.dataclass import dataclass
from compose.errors import Problem
from compose.load.nearest import nearest
from compose.model.project import Place, dotted
from compose.position import Position

MAX_DEPTH = 100
_TOO_DEEP = f"this is nested more than {MAX_DEPTH} levels deep"
# What aliases may blow a file up to: a hundred times its own size, or this, if that is more.
MAX_EXPANDED = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A file, and what its values are read against."""

    label: str  # as shown to the user
    path: Path  # absolute
    base: Path  # relative paths in the file start here
    environment: Mapping[str, str] = field(default_factory=dict)


class Timestamp(str):
    """An unquoted date. Where text is wanted Compose refuses it: which text is meant?"""

    __slots__ = ()


ScalarValue: TypeAlias = str | int | float | bool | None
Merging = Literal["", "reset", "override"]


@dataclass(slots=True, eq=False)
class Key:
    source: Source
    line: int
    column: int

    @property
    def at(self) -> Position:
        return Position(self.source.label, self.line, self.column)


@dataclass(slots=True, eq=False)
class Scalar:
    source: Source
    line: int
    column: int
    value: ScalarValue
    text: str  # as written, without quotes
    merging: Merging = ""

    @property
    def at(self) -> Position:
        return Position(self.source.label, self.line, self.column)

    def holding(self, value: ScalarValue) -> "Scalar":
        """Another value at this place."""
        text = value if isinstance(value, str) else self.text
        return Scalar(self.source, self.line, self.column, value, text, self.merging)


@dataclass(slots=True, eq=False)
class Sequence:
    source: Source
    line: int
    column: int
    items: list["Node"]
    merging: Merging = ""

    @property
    def at(self) -> Position:
        return Position(self.source.label, self.line, self.column)

    def holding(self, items: list["Node"]) -> "Sequence":
        return Sequence(self.source, self.line, self.column, items, self.merging)


@dataclass(slots=True, eq=False)
class Map:
    source: Source
    line: int
    column: int
    entries: dict[str, "Node"]
    keys: dict[str, Key]
    merging: Merging = ""
    listed: bool = False  # a list of NAME=value in the file, or merged; means the same

    @property
    def at(self) -> Position:
        return Position(self.source.label, self.line, self.column)

    def holding(self, entries: dict[str, "Node"], keys: dict[str, Key] | None = None) -> "Map":
        """Other entries at this place; keys that stay keep theirs."""
        known = self.keys if keys is None else keys
        return Map(
            self.source, self.line, self.column, entries, known, self.merging, self.listed
        )  # fmt: skip

    def place_of(self, key: str) -> Position:
        """Where the entry is best pointed at: a plain value itself, anything larger by its key."""
        node = self.entries.get(key)
        if isinstance(node, Scalar) and node.value is not None:
            return node.at
        known = self.keys.get(key)
        return known.at if known else self.at


@dataclass(slots=True, eq=False)
class Broken:
    """Stands where a problem was told, so that later phases neither repeat it nor stop."""

    source: Source
    line: int
    column: int
    merging: Merging = ""

    @property
    def at(self) -> Position:
        return Position(self.source.label, self.line, self.column)


Node: TypeAlias = Scalar | Sequence | Map | Broken


class Problems:
    """Gathers what is wrong; a phase goes on past a problem as long as it can."""

    def __init__(self) -> None:
        self.errors: list[Problem] = []
        self.warnings: list[Problem] = []

    def add(self, node: Node | Key, place: Place, what: str, hint: str = "") -> None:
        self.errors.append(Problem(what, at=node.at, path=dotted(place), hint=hint))

    def warn(self, node: Node | Key, place: Place, what: str, hint: str = "") -> None:
        self.warnings.append(Problem(what, at=node.at, path=dotted(place), hint=hint))


class TreePositions(Mapping[Place, Position]):
    """The places of a whole tree, looked up by walking it; nothing is copied. `elsewhere` knows of
    values that come from other files."""

    def __init__(
        self, root: Map, elsewhere: Callable[[Place], Position | None] = lambda place: None
    ) -> None:
        self._root = root
        self._elsewhere = elsewhere

    def __getitem__(self, place: Place) -> Position:
        node: Node = self._root
        position = node.at
        for step in place:
            if isinstance(node, Map) and isinstance(step, str) and step in node.entries:
                position = node.place_of(step)
                node = node.entries[step]
            elif isinstance(node, Sequence) and isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                position = node.at
            elif (found := self._elsewhere(place)) is not None:
                return found
            else:
                raise KeyError(place)
        return position

    def __iter__(self) -> Iterator[Place]:
        return (place for place, _ in walk(self._root, ()))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def walk(node: Node, place: Place) -> Iterator[tuple[Place, Node]]:
    """The node and all below it."""
    yield place, node
    if isinstance(node, Map):
        for key, value in node.entries.items():
            yield from walk(value, (*place, key))
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from walk(item, (*place, index))


# ---- scalars ----

_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False}
_BOOLEANS["FALSE"] = False
_INT = re.compile(r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)$")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$")
_SPECIAL = re.compile(r"(?:([-+]?)\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$")
_TIMESTAMP = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}"
    r"(?:(?:[Tt]|[ \t]+)\d{1,2}:\d{2}:\d{2}(?:\.\d+)?[ \t]*(?:Z|[-+]\d\d?(?::?\d\d)?)?)?$"
)
# The first letters that anything but text can begin with.
_SPECIAL_START = frozenset("0123456789+-.~nNtTfF")


def plain_value(text: str) -> ScalarValue:
    """What an unquoted scalar means."""
    if not text or text[0] not in _SPECIAL_START:
        return text or None
    if text in _NULLS:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INT.match(text):
        return _integer(text)
    if _FLOAT.match(text):
        return float(text.replace("_", ""))
    special = _SPECIAL.match(text)
    if special:
        return float("nan" if special[1] is None else f"{special[1]}inf")
    return Timestamp(text) if _TIMESTAMP.match(text) else text


# No number that anything here can mean is longer; Python itself refuses to print far longer ones.
_LONGEST_NUMBER = 100


def _integer(text: str) -> int | str:
    digits = text.replace("_", "")
    sign = -1 if digits[0] == "-" else 1
    digits = digits.lstrip("+-")
    if len(digits) > _LONGEST_NUMBER:
        return text
    try:
        if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
            return sign * int(digits, 8)
        return sign * int(digits, 0)
    except ValueError:  # "0x_" and the like
        return text


def spelled(value: ScalarValue) -> str:
    """A scalar put where text is wanted, as Compose spells it: true, 1.5, 1e+08, +Inf."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return _spelled_float(value)
        case _:
            return str(value)


def _spelled_float(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    from decimal import Decimal

    # Go's %v: the fewest digits that say it exactly, with an exponent from a million up.
    sign, digits, power = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(power, int)
    exponent = power + len(digits) - 1
    if value == 0 or -4 <= exponent < 6:
        return f"{Decimal(repr(value)).normalize():f}"
    shown = "".join(map(str, digits))
    mantissa = shown[0] + (f".{shown[1:]}" if len(shown) > 1 else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"


# ---- documents ----


class _Mark(Protocol):
    line: int
    column: int


class _Event(Protocol):
    """What the parser's events have in common, and what the two kinds that matter add."""

    start_mark: _Mark
    anchor: str
    tag: str | None
    value: str
    implicit: tuple[bool, bool]
    style: str | None


class BadYaml(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def parse(text: str, source: Source, problems: Problems) -> list[Map]:
    """The documents of a file, each a mapping. What is wrong goes to `problems`."""
    builder = _Builder(text, source, problems)
    try:
        return builder.documents()
    except BadYaml as error:
        problems.errors.append(error.problem)
    except yaml.MarkedYAMLError as error:
        problems.errors.append(_yaml_problem(error, text, source))
    except yaml.YAMLError as error:  # the reader: control characters, broken encoding
        problems.errors.append(_reader_problem(error, text, source))
    return []


class _Builder:
    def __init__(self, text: str, source: Source, problems: Problems) -> None:
        self._next = cast(Callable[[], _Event], cyaml.CParser(text).get_event)  # type: ignore[attr-defined]
        self._source = source
        self._problems = problems
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._open: set[str] = set()  # anchors whose node isn't finished
        self._own = 0  # nodes written
        self._expanded = 0  # nodes once aliases are followed

    def documents(self) -> list[Map]:
        roots: list[Map] = []
        self._next()  # stream start
        event = self._next()
        while isinstance(event, yaml.DocumentStartEvent):
            self._anchors = {}
            node = self._node(self._next(), (), None)
            if isinstance(node, Map):
                roots.append(node)
            elif not (isinstance(node, Scalar) and node.value is None):
                self._problems.add(
                    node,
                    (),
                    "a Compose file must hold a mapping of keys such as services",
                    hint='start with a line "services:" and put the services below it',
                )
            self._next()  # document end
            event = self._next()
        return roots

    def _node(self, event: _Event, place: Place, key: Key | None) -> Node:
        self._own += 1
        self._expanded += 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, place)
        anchor: str | None = event.anchor
        before = self._expanded
        if anchor is not None:
            self._open.add(anchor)
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            value: ScalarValue
            value = plain_value(event.value) if event.implicit[0] else self._tagged(event, place)
            if key is not None and value is None and not event.value:
                line, column = key.line, key.column
            node = Scalar(self._source, line, column, value, event.value)
        elif len(place) >= MAX_DEPTH:
            raise self._bad(event, _TOO_DEEP)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Sequence(self._source, line, column, self._items(place))
        else:
            node = self._map(line, column, place)
        tag = event.tag
        if tag in ("!reset", "!override"):
            node.merging = "reset" if tag == "!reset" else "override"
        elif tag is not None and tag[0] == "!" and tag != "!":
            self._problems.add(
                node,
                place,
                f"unknown YAML tag {tag}",
                hint="Compose knows !reset and !override; leave any other tag out",
            )
        if anchor is not None:
            self._open.discard(anchor)
            self._anchors[anchor] = (node, self._expanded - before + 1)
        return node

    def _alias(self, event: _Event, place: Place) -> Node:
        name: str = event.anchor
        if name in self._open:
            raise self._bad(event, f"the anchor &{name} contains itself")
        if name not in self._anchors:
            close = nearest(name, self._anchors)
            hint = f"did you mean *{close}?" if close else f"define it earlier as &{name}"
            raise self._bad(event, f"there is no anchor &{name} before this", hint)
        node, weight = self._anchors[name]
        self._expanded += weight - 1
        if self._expanded > max(MAX_EXPANDED, 100 * self._own):
            raise self._bad(
                event,
                "aliases repeat so much that the file would grow without bounds",
                "repeat less through anchors",
            )
        return node

    def _tagged(self, event: _Event, place: Place) -> ScalarValue:
        text: str = event.value
        match event.tag:
            case "!reset" | "!override" if event.style is None or event.style == "":
                return plain_value(text)
            case "tag:yaml.org,2002:null":
                return None
            case "tag:yaml.org,2002:int" | "tag:yaml.org,2002:float" | "tag:yaml.org,2002:bool":
                return plain_value(text)
        return text

    def _items(self, place: Place) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            node = self._node(event, (*place, len(items)), None)
            if node.merging == "reset":
                self._problems.add(
                    node,
                    (*place, len(items)),
                    "one entry of a list can't be reset",
                    hint="put !override before the list and write down what stays",
                )
            items.append(node)
        return items

    def _map(self, line: int, column: int, place: Place) -> Map:
        entries: dict[str, Node] = {}
        keys: dict[str, Key] = {}
        merged: list[Node] = []
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            name, is_merge = self._key_name(event, place)
            mark = event.start_mark
            key = Key(self._source, mark.line + 1, mark.column + 1)
            value = self._node(self._next(), (*place, name), key)
            if is_merge:
                merged.append(value)
            elif name in entries:
                first = keys[name]
                self._problems.add(
                    key,
                    (*place, name),
                    f'the key "{name}" is here twice: first at line {first.line}, '
                    f"column {first.column}",
                    hint="keep one of the two, or put both contents under one key",
                )
            else:
                entries[name] = value
                keys[name] = key
        node = Map(self._source, line, column, entries, keys)
        for value in merged:
            self._merge_key(node, value, place)
        return node

    def _key_name(self, event: _Event, place: Place) -> tuple[str, bool]:
        if not isinstance(event, yaml.ScalarEvent):
            if isinstance(event, yaml.AliasEvent):
                node = self._alias(event, place)
                if isinstance(node, Scalar) and isinstance(node.value, str):
                    return node.value, False
            raise self._bad(event, "a key must be plain text, not a list or a mapping")
        text: str = event.value
        plain = event.implicit[0]
        if (plain and text == "<<") or event.tag == "tag:yaml.org,2002:merge":
            return text, True
        if plain and not isinstance(plain_value(text), str):
            mark = event.start_mark
            self._problems.add(
                Key(self._source, mark.line + 1, mark.column + 1),
                (*place, text),
                f"the key {text or '(empty)'} isn't text",
                hint=f'put it in quotes: "{text}"',
            )
        if event.anchor is not None:
            mark = event.start_mark
            node = Scalar(self._source, mark.line + 1, mark.column + 1, text, text)
            self._anchors[event.anchor] = (node, 1)
        return text, False

    def _merge_key(self, node: Map, value: Node, place: Place) -> None:
        """`<<`: entries of other mappings, where the mapping has no own; the first one wins."""
        for part in value.items if isinstance(value, Sequence) else [value]:
            if not isinstance(part, Map):
                self._problems.add(
                    part,
                    (*place, "<<"),
                    "<< can only take in mappings",
                    hint="write <<: *anchor, where &anchor names a mapping",
                )
                continue
            for name, entry in part.entries.items():
                if name not in node.entries:
                    node.entries[name] = entry
                    node.keys[name] = part.keys[name]

    def _bad(self, event: _Event, what: str, hint: str = "") -> BadYaml:
        mark = event.start_mark
        position = Position(self._source.label, mark.line + 1, mark.column + 1)
        return BadYaml(Problem(what, at=position, hint=hint))


# ---- what the YAML parser says, in words ----

_INDENT_HINT = "check the indentation: entries of one list or mapping start in the same column"
_WORDS: tuple[tuple[str, str, str], ...] = (
    (
        "mapping values are not allowed",
        'a ": " can\'t stand here',
        "put the value in quotes if it holds a colon, or check the indentation of this line",
    ),
    ("did not find expected key", "a key was expected here", _INDENT_HINT),
    (
        "could not find expected ':'",
        "a colon is missing after a key",
        'write "key: value", with a space after the colon',
    ),
    ("did not find expected '-' indicator", 'a list entry ("- ") was expected here', _INDENT_HINT),
    (
        "block sequence entries are not allowed",
        "a list can't start here",
        'put the first "- " on a line of its own below the key',
    ),
    (
        "found unexpected end of stream",
        "the file ends inside quotes",
        "add the closing quote",
    ),
    (
        "did not find expected ',' or ']'",
        "a list in [ ] isn't closed or lacks a comma",
        'close it with "]"; put entries that hold special characters in quotes',
    ),
    (
        "did not find expected ',' or '}'",
        "a mapping in { } isn't closed or lacks a comma",
        'close it with "}"; put values that hold special characters in quotes',
    ),
    (
        "found unknown escape character",
        "this backslash doesn't start an escape that YAML knows",
        "double the backslash, or use single quotes, which take it as it is",
    ),
    (
        "did not find expected alphabetic or numeric character",
        "an anchor (&) or alias (*) needs a name",
        "put the value in quotes if it is meant to start with & or *",
    ),
    (
        "did not find expected <document start>",
        "this doesn't belong to what comes before",
        _INDENT_HINT,
    ),
    (
        "control characters are not allowed",
        "there is a control character in the file",
        "remove it; tools show it as ^ and a letter",
    ),
)


def _yaml_problem(error: yaml.MarkedYAMLError, text: str, source: Source) -> Problem:
    mark = error.problem_mark or error.context_mark
    reason = str(error.problem or error.context or "it can't be read")
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    what, hint = reason, ""
    for start, words, advice in _WORDS:
        if start in reason:
            what, hint = words, advice
            break
    if "found unexpected end of stream" in reason and error.context_mark:
        line, column = error.context_mark.line + 1, error.context_mark.column + 1
        what = "the quote that opens here is never closed"
    if "cannot start any token" in reason:
        letter = shown[column - 1 : column]
        if letter == "\t":
            what, hint = "there is a tab here", "YAML is indented with spaces only"
        else:
            what = f"a value can't start with {letter or 'this character'}"
            hint = "put the value in quotes"
    position = Position(source.label, line, column)
    if "maximum nesting depth" in reason:
        # libyaml has a limit of its own, and reads ahead: it may come to it before we to ours.
        return Problem(_TOO_DEEP, at=position)
    indentation = shown[: len(shown) - len(shown.lstrip())]
    if "\t" in indentation:
        column = indentation.index("\t") + 1
        what, hint = "there is a tab in the indentation", "YAML is indented with spaces only"
    position = Position(source.label, line, column)
    return Problem(f"this is not valid YAML: {what}", at=position, hint=hint)


def _reader_problem(error: yaml.YAMLError, text: str, source: Source) -> Problem:
    at = cast("int | None", getattr(error, "position", None)) or 0
    line = text.count("\n", 0, at) + 1
    column = at - (text.rfind("\n", 0, at) + 1) + 1
    reason = str(getattr(error, "reason", error))
    for start, words, advice in _WORDS:
        if start in reason:
            where = Position(source.label, line, column)
            return Problem(f"this is not valid YAML: {words}", at=where, hint=advice)
    where = Position(source.label, line, column)
    return Problem(f"this is not valid YAML: {reason}", at=where)
