"""Does a part of a file have the shape that the schema asks for? Yes or no, and fast.

The schema is compiled to closures over tree nodes. `schema.py` says in words what is wrong with a
part that is refused here.

Files are checked one by one, before they are merged: an override file may hold half of a thing, so
`required` is left to `bind.py`, and a key without a value counts as not set.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, TypeAlias, cast

from compose.load.tree import Broken, Map, Node, Scalar, ScalarValue, Sequence, Timestamp, spelled

Schema: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Node], bool]

SCHEMA_FILE = Path(__file__).parents[2] / "schemas" / "compose.schema.json"

_WHOLE = re.compile(r"\s*[-+]?\d+\s*$")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")
_TRUTHS = frozenset(["true", "false", "y", "yes", "on", "n", "no", "off", "t", "f", "1", "0"])


@lru_cache(maxsize=1)
def strict_schema() -> Schema:
    return cast(Schema, json.loads(SCHEMA_FILE.read_text()))


@lru_cache(maxsize=1)
def load_schema() -> Schema:
    """The schema as applied to one file of several: nothing required, keys without a value free."""
    return cast(Schema, _relaxed(strict_schema()))


def _relaxed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_relaxed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    relaxed = {}
    for key, part in schema.items():
        if key == "properties":
            relaxed[key] = {name: _or_null(_relaxed(value)) for name, value in part.items()}
        elif key != "required":
            relaxed[key] = _relaxed(part)
    return relaxed


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


# ---- yes or no ----


@cache
def shape_of(definition: str) -> Check:
    schema = load_schema()
    return compile_shape(schema["$defs"][definition] if definition else schema)


def compile_shape(schema: Schema) -> Check:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return lambda node: shape_of(name)(node)
    checks: list[Check] = []
    if "anyOf" in schema:
        branches = tuple(compile_shape(branch) for branch in schema["anyOf"])
        checks.append(lambda node: any(branch(node) for branch in branches))
    if "type" in schema:
        checks.append(_compile_type(schema["type"]))
    if "enum" in schema:
        allowed = frozenset(schema["enum"])
        checks.append(lambda node: isinstance(node, Scalar) and node.value in allowed)
    if "pattern" in schema:
        matches = re.compile(schema["pattern"]).search
        checks.append(lambda node: isinstance(node, Scalar) and bool(matches(spelled(node.value))))
    if "minimum" in schema or "maximum" in schema:
        checks.append(_compile_bounds(schema))
    if "properties" in schema or "patternProperties" in schema:
        checks.append(_compile_map(schema))
    if "items" in schema:
        item = compile_shape(schema["items"])
        checks.append(
            lambda node: (
                not isinstance(node, Sequence) or all(map(unless_settled(item), node.items))
            )
        )
    if schema.get("uniqueItems"):
        checks.append(lambda node: not isinstance(node, Sequence) or not _has_repeats(node))
    if len(checks) == 1:
        return checks[0]
    both = tuple(checks)
    return lambda node: all(check(node) for check in both)


def unless_settled(check: Check) -> Check:
    return lambda node: isinstance(node, Broken) or bool(node.merging == "reset") or check(node)


def _compile_type(wanted: str | list[str]) -> Check:
    types = frozenset([wanted] if isinstance(wanted, str) else wanted)
    has_map, has_list = "object" in types, "array" in types

    def check(node: Node) -> bool:
        if isinstance(node, Scalar):
            return is_any_of(node.value, types)
        return has_map if isinstance(node, Map) else has_list

    return check


def is_any_of(value: ScalarValue, types: frozenset[str]) -> bool:
    """Text that reads as a number or truth counts as one: ${NAME} can give nothing but text."""
    match value:
        case None:
            return "null" in types
        case bool():
            return "boolean" in types
        case int():
            return "integer" in types or "number" in types
        case float():
            return "number" in types or ("integer" in types and value.is_integer())
        case Timestamp():
            return False
    return (
        "string" in types
        or ("integer" in types and bool(_WHOLE.match(value)))
        or ("number" in types and bool(_NUMBER.match(value)))
        or ("boolean" in types and value.lower() in _TRUTHS)
    )


def _compile_bounds(schema: Schema) -> Check:
    low, high = schema.get("minimum", float("-inf")), schema.get("maximum", float("inf"))

    def check(node: Node) -> bool:
        if not isinstance(node, Scalar) or isinstance(node.value, bool):
            return True
        if isinstance(node.value, int | float):
            return bool(low <= node.value <= high)
        return True

    return check


def _compile_map(schema: Schema) -> Check:
    properties = {name: compile_shape(part) for name, part in schema.get("properties", {}).items()}
    patterns = tuple(
        (re.compile(pattern).search, compile_shape(part))
        for pattern, part in schema.get("patternProperties", {}).items()
    )
    others = schema.get("additionalProperties", True)

    def check(node: Node) -> bool:
        if not isinstance(node, Map):
            return True
        for key, value in node.entries.items():
            if isinstance(value, Broken):
                continue  # told already
            if value.merging == "reset":
                if key in properties or any(matches(key) for matches, _ in patterns):
                    continue
                return bool(others)
            part = properties.get(key)
            if part is not None:
                if not part(value):
                    return False
                continue
            known = False
            for matches, pattern_part in patterns:
                if matches(key):
                    known = True
                    if not pattern_part(value):
                        return False
            if not known and others is False:
                return False
        return True

    return check


def _has_repeats(node: Sequence) -> bool:
    seen: set[str] = set()
    for item in node.items:
        if isinstance(item, Broken):
            continue
        key = f"{type(item.value).__name__} {item.value}" if isinstance(item, Scalar) else ""
        key = key or json.dumps(plain(item), sort_keys=True, default=str)
        if key in seen:
            return True
        seen.add(key)
    return False


# ---- as JSON data ----


class _Absent:
    """Left out of what jsonschema sees: told already, or about to be reset."""


_ABSENT = _Absent()


def plain(node: Node) -> Any:
    """JSON data for jsonschema; dates stay their own type, so that no rule takes them for text."""
    if isinstance(node, Broken) or node.merging == "reset":
        return _ABSENT
    if isinstance(node, Scalar):
        return _Date(node.value) if isinstance(node.value, Timestamp) else node.value
    if isinstance(node, Sequence):
        items = [plain(item) for item in node.items]
        return _ABSENT if _ABSENT in items else items
    entries = {key: plain(value) for key, value in node.entries.items()}
    return {key: value for key, value in entries.items() if value is not _ABSENT}


class _Date:
    def __init__(self, text: str) -> None:
        self.text = text
