"""What in a file doesn't have the shape of a Compose file: every misfit at once, in words.

jsonschema finds them, but takes 100 ms to import and long to run. So `shape.py` says first whether
there is anything to find, and in which services.
"""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from compose.load.nearest import nearest
from compose.load.shape import (
    compile_shape,
    is_any_of,
    load_schema,
    plain,
    shape_of,
    strict_schema,
    unless_settled,
)
from compose.load.tree import (
    Broken,
    Key,
    Map,
    Node,
    Problems,
    Scalar,
    Sequence,
    Timestamp,
    spelled,
)
from compose.model.project import Place

if TYPE_CHECKING:
    from jsonschema.protocols import Validator


def check_file(root: Map, problems: Problems) -> Map:
    """The tree with what doesn't fit replaced by Broken; each misfit told."""
    node = _checked(root, (), "", problems)
    return node if isinstance(node, Map) else root.holding({})


def check_raw(root: Map, problems: Problems) -> None:
    """Tells the misfits of a file whose variables aren't filled in: not those of values that hold
    one."""
    for misfit in [] if shape_of("")(root) else _misfits(root, (), ""):
        if not (isinstance(misfit.node, Scalar) and "$" in misfit.node.text):
            problems.add(misfit.node, misfit.place, misfit.what, misfit.hint)


def check_service(service: Node, place: Place, problems: Problems) -> Node:
    """The same for one service: what `extends` takes from a file isn't held to more."""
    return _checked(service, place, "service", problems)


def _checked(node: Node, place: Place, definition: str, problems: Problems) -> Node:
    if shape_of(definition)(node):
        return node
    misfits = list(_misfits(node, place, definition))
    for misfit in misfits:
        problems.add(misfit.node, misfit.place, misfit.what, misfit.hint)
    broken = {misfit.place[len(place) :] for misfit in misfits}
    return _without(node, broken)


def _without(node: Node, broken: set[Place]) -> Node:
    if () in broken:
        return Broken(node.source, node.line, node.column, node.merging)
    below: dict[str | int, set[Place]] = {}
    for place in broken:
        below.setdefault(place[0], set()).add(place[1:])
    if isinstance(node, Map):
        return node.holding(
            {
                key: _without(value, below[key]) if key in below else value
                for key, value in node.entries.items()
            }
        )
    if isinstance(node, Sequence):
        return node.holding(
            [_without(item, below[i]) if i in below else item for i, item in enumerate(node.items)]
        )
    return node


def check_nulls(root: Map, problems: Problems) -> None:
    """Tells of keys without a value where one is needed. Only the merged tree shows them: in an
    override file such a key leaves the earlier file's value as it is."""
    for place, key in _nulls(root, ()):
        if not _takes_null(strict_schema(), place):
            problems.add(
                key,
                place,
                f'"{place[-1]}" has no value',
                "give it one, or remove the line",
            )


def _nulls(node: Node, place: Place) -> Iterator[tuple[Place, Node | Key]]:
    if isinstance(node, Map):
        for name, value in node.entries.items():
            if isinstance(value, Map | Sequence):
                if name not in _FREE and not name.startswith("x-"):
                    yield from _nulls(value, (*place, name))
            elif isinstance(value, Scalar) and value.value is None:
                yield (*place, name), node.keys.get(name, value)
    elif isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            if isinstance(item, Map | Sequence):
                yield from _nulls(item, (*place, index))


_FREE = frozenset(["environment", "labels", "args", "annotations", "sysctls"])


def _takes_null(schema: Any, place: Place) -> bool:
    """Whether some reading of the schema takes null there; what no schema knows is free."""
    if "$ref" in schema:
        return _takes_null(strict_schema()["$defs"][schema["$ref"].rpartition("/")[2]], place)
    if any(_takes_null(branch, place) for branch in schema.get("anyOf", ())):
        return True
    if not place:
        types = schema.get("type", () if "anyOf" in schema else "null")
        return "null" in ([types] if isinstance(types, str) else types)
    step = place[0]
    if isinstance(step, int):
        return "items" in schema and _takes_null(schema["items"], place[1:])
    if step.startswith("x-") and "^x-" in schema.get("patternProperties", {}):
        return True
    inner = schema.get("properties", {}).get(step)
    if inner is not None:
        return _takes_null(inner, place[1:])
    return any(
        _takes_null(part, place[1:])
        for pattern, part in schema.get("patternProperties", {}).items()
        if re.search(pattern, step)
    )


# ---- what is wrong ----


class _Misfit:
    def __init__(self, node: Any, place: Place, what: str, hint: str = "") -> None:
        self.node, self.place, self.what, self.hint = node, place, what, hint


def _misfits(node: Node, place: Place, definition: str) -> Iterator[_Misfit]:
    """What is wrong in a refused part; large maps are narrowed down to their refused entries."""
    if definition == "" and isinstance(node, Map):
        schema = load_schema()
        narrow: dict[str, Node] = {}
        for section, value in node.entries.items():
            rule = schema["properties"].get(section)
            if rule is None or not isinstance(value, Map):
                narrow[section] = value
                continue
            each = next(iter(rule["anyOf"][0].get("patternProperties", {}).values()), None)
            if each is None:
                narrow[section] = value
                continue
            check = unless_settled(compile_shape(each))
            refused = {
                key: entry
                for key, entry in value.entries.items()
                if not _NAME.match(key) or not check(entry)
            }
            narrow[section] = value.holding(refused)
        node = node.holding(narrow)
    validator = _validator(definition)
    data = plain(node)
    for error in validator.iter_errors(data):
        yield from _explain(error, node, place)


_NAME = re.compile(r"^[a-zA-Z0-9._-]+$")


@cache
def _validator(definition: str) -> "Validator":
    from jsonschema import Draft202012Validator, validators

    schema = load_schema()
    if definition:
        schema = {"$ref": f"#/$defs/{definition}", "$defs": schema["$defs"]}
    checker = Draft202012Validator.TYPE_CHECKER
    for name in ("integer", "number", "boolean"):
        checker = checker.redefine(name, _type_rule(name))
    lenient = validators.extend(Draft202012Validator, type_checker=checker)  # type: ignore[no-untyped-call]
    return cast("Validator", lenient(schema))


def _type_rule(name: str) -> Callable[[Any, Any], bool]:
    wanted = frozenset([name])

    def rule(_: Any, value: Any) -> bool:
        return isinstance(value, str | int | float | bool) and is_any_of(value, wanted)

    return rule


def _explain(error: Any, root: Node, place: Place) -> Iterator[_Misfit]:
    """jsonschema's error in our words; for alternatives, those of the one that was meant."""
    path: Place = tuple(error.absolute_path)
    node, key = _find(root, path)
    here = (*place, *path)
    rule = error.validator
    if rule == "anyOf":
        meant = _meant(error)
        if meant:
            for inner in meant:
                yield from _explain(inner, root, place)
            return
    match rule:
        case "additionalProperties":
            yield from _unknown_keys(error, cast(Map, node), here)
        case "type" | "anyOf":
            yield _wrong_type(error, node, key, here)
        case "enum":
            yield _not_one_of(error, node, here)
        case "pattern":
            yield _Misfit(node, here, *_unlike(here, spelled(cast(Scalar, node).value)))
        case "uniqueItems":
            yield from _repeated(cast(Sequence, node), here)
        case "minimum" | "maximum":
            yield _out_of_bounds(error, node, here)
        case _:
            yield _Misfit(node, here, str(error.message))


def _meant(error: Any) -> list[Any]:
    """The errors of the alternative that takes this kind of value; none if no alternative does."""
    branches: dict[int, list[Any]] = {}
    for inner in error.context:
        branches.setdefault(inner.schema_path[0], []).append(inner)
    depth = len(error.absolute_path)
    fitting = []
    for errors in branches.values():
        # An alternative of another type fails with just that, right here.
        flattened = list(_flat(errors))
        wrong_kind = any(e.validator == "type" and len(e.absolute_path) == depth for e in flattened)
        if not wrong_kind:
            fitting.append(errors)
    return fitting[0] if fitting else []


def _flat(errors: list[Any]) -> Iterator[Any]:
    for error in errors:
        if error.validator == "anyOf":
            meant = _meant(error)
            yield from meant or _flat(error.context)
        else:
            yield error


def _find(root: Node, path: Place) -> tuple[Node, Any]:
    """The node at a path, and the key it stands under."""
    node: Node = root
    key: Any = None
    for step in path:
        if isinstance(node, Map):
            key = node.keys.get(str(step))
            node = node.entries[str(step)]
        elif isinstance(node, Sequence):
            key = None
            node = node.items[int(step)]
    return node, key


def _unknown_keys(error: Any, node: Map, here: Place) -> Iterator[_Misfit]:
    known = sorted(error.schema.get("properties", {}))
    patterns = list(error.schema.get("patternProperties", {}))
    for name in error.instance:
        if name in known or any(re.search(pattern, name) for pattern in patterns):
            continue
        if not known:
            yield _Misfit(
                node.keys[name],
                (*here, name),
                f'"{name}" can\'t be a name here',
                'names are made of letters, digits, "_", "." and "-"',
            )
            continue
        yield _Misfit(
            node.keys[name], (*here, name), f'unknown key "{name}"', _key_hint(name, known, here)
        )


def _key_hint(name: str, known: list[str], here: Place) -> str:
    close = nearest(name, known)
    if close:
        return f'did you mean "{close}"?'
    elsewhere = _OFTEN_MISPLACED.get(name)
    if here == () and name in load_schema()["$defs"]["service"]["properties"]:
        return f'"{name}" belongs to a service: put it below services and the name of one'
    if here == ():
        return 'the services go below "services:"; your own keys start with "x-"'
    if elsewhere:
        return elsewhere
    if len(known) <= 12:
        return f"known here: {', '.join(known)}"
    return 'your own keys start with "x-"'


_OFTEN_MISPLACED = {
    "replicas": 'it goes below "deploy:"',
    "resources": 'it goes below "deploy:"',
    "limits": 'it goes below "deploy:", "resources:"',
    "memory": 'write "mem_limit:" here, or "deploy: resources: limits: memory:"',
    "dockerfile": 'it goes below "build:"',
    "context": 'it goes below "build:"',
    "args": 'it goes below "build:"',
    "watch": 'it goes below "develop:"',
    "test": 'it goes below "healthcheck:"',
    "aliases": 'it goes below "networks:" and the name of a network',
    "driver_opts": "it goes into the network or volume at the top level",
}

_TYPE_WORDS = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}


def _kind(node: Node) -> str:
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    value = node.value if isinstance(node, Scalar) else None
    match value:
        case None:
            return "empty"
        case bool():
            return f"{spelled(value)}"
        case Timestamp():
            return f"the date {value}"
        case int() | float():
            return f"the number {cast(Scalar, node).text or spelled(value)}"
    return f'the text "{_short(value)}"'


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else line[:37] + "..."


def _wrong_type(error: Any, node: Node, key: Any, here: Place) -> _Misfit:
    types = [name for name in _types(error.schema) if name != "null"]
    at = key if key is not None and not isinstance(node, Scalar) else node
    if isinstance(node, Scalar) and isinstance(node.value, Timestamp):
        hint = f'put it in quotes: "{node.text}"'
        return _Misfit(at, here, f"{node.text} is read as a date, not as text", hint)
    found = _kind(node)
    if here[:1] == ("services",) and len(here) == 2 and found == "empty":
        return _Misfit(at, here, "this service is empty", 'give it at least "image:" or "build:"')
    if here[-1:] and here[-1] in _DURATIONS and found.startswith("the number"):
        hint = _type_hint(node, types, here)
        return _Misfit(at, here, f"must be a time with its unit, not {found}", hint)
    if {"string", "boolean"} <= set(types) and not {"array", "object"} & set(types):
        hint = _type_hint(node, types, here)
        return _Misfit(at, here, f"must be a single value, not {found}", hint)
    words = [_TYPE_WORDS[name] for name in dict.fromkeys(types)]
    if "string" in types:
        # Numbers and truths among several types are only ways to write the same text.
        words = [
            word for word in words if word not in ("a whole number", "a number") or len(words) < 3
        ]
    wanted = f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
    return _Misfit(at, here, f"must be {wanted}, not {found}", _type_hint(node, types, here))


def _types(schema: Any) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    if "$ref" in schema:
        yield from _types(load_schema()["$defs"][schema["$ref"].rpartition("/")[2]])
    for branch in schema.get("anyOf", ()):
        yield from _types(branch)
    types = schema.get("type", ())
    yield from [types] if isinstance(types, str) else types


def _type_hint(node: Node, types: list[str], here: Place) -> str:
    last = here[-1] if here else ""
    if "string" in types and isinstance(node, Scalar):
        if last in _DURATIONS and isinstance(node.value, int | float):
            return f"add the unit: {node.text}s"
        if node.value is not None:
            return f'put it in quotes: "{node.text}"'
    if "array" in types and isinstance(node, Scalar) and node.value is not None:
        return f"write it as a list: [{json.dumps(spelled(node.value), ensure_ascii=False)}]"
    if "array" in types and isinstance(node, Map) and "object" not in types:
        return 'begin each entry with "- "'
    if "object" in types and isinstance(node, Sequence):
        return 'write "name: value" lines, without "- "'
    if types and types[0] == "string" and isinstance(node, Map) and len(node.entries) == 1:
        first = next(iter(node.entries))
        return f'if this is one text that holds a colon, put it in quotes: "{first}: ..."'
    return ""


_DURATIONS = frozenset(
    [
        *("interval", "timeout", "start_period", "start_interval", "stop_grace_period"),
        *("delay", "monitor", "window"),
    ]
)


def _not_one_of(error: Any, node: Node, here: Place) -> _Misfit:
    allowed = [str(value) for value in error.schema["enum"] if value not in ("", None)]
    given = spelled(node.value) if isinstance(node, Scalar) else _kind(node)
    close = nearest(given, allowed)
    choices = ", ".join(allowed[:-1]) + f" or {allowed[-1]}" if len(allowed) > 1 else allowed[0]
    hint = f'did you mean "{close}"?' if close else ""
    return _Misfit(node, here, f'"{_short(given)}" isn\'t allowed: it must be {choices}', hint)


def _unlike(here: Place, given: str) -> tuple[str, str]:
    if here and here[-1] == "pull_policy":
        known = ["always", "never", "missing", "build", "daily", "weekly"]
        close = nearest(given, known)
        rule = f"{', '.join(known)} or every_ with a time such as every_12h"
        hint = f'did you mean "{close}"?' if close else ""
        return f'"{_short(given)}" isn\'t a pull policy: it must be {rule}', hint
    return f'"{_short(given)}" doesn\'t have the right form', ""


def _repeated(node: Sequence, here: Place) -> Iterator[_Misfit]:
    seen: dict[str, Node] = {}
    for index, item in enumerate(node.items):
        text = json.dumps(plain(item), sort_keys=True, default=str)
        if text in seen:
            shown = f'"{_short(spelled(item.value))}"' if isinstance(item, Scalar) else "this entry"
            first = seen[text].at
            yield _Misfit(
                item,
                (*here, index),
                f"{shown} is in the list twice: first at line {first.line}",
                "remove one of the two",
            )
        else:
            seen[text] = item


def _out_of_bounds(error: Any, node: Node, here: Place) -> _Misfit:
    low, high = error.schema.get("minimum"), error.schema.get("maximum")
    given = cast(Scalar, node).text
    if high is None:
        return _Misfit(node, here, f"{given} is too small: it must be {low} or more")
    return _Misfit(node, here, f"{given} is out of range: it must be from {low} to {high}")
