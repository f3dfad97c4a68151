"""Pure: JSON from outside becomes typed values, or InvalidRequest says which field is wrong.

One strict loader for manifests, image configs and catalogs of archives: bounded size and depth,
no NaN, no numbers without end, nothing but an object on top where an object is due.
"""

import json
from collections.abc import Mapping, Sequence

from engine.errors import InvalidRequest

MAX_DOCUMENT = 4 << 20  # bytes; as registries limit manifests


def parse_document(content: bytes, what: str, *, limit: int = MAX_DOCUMENT) -> object:
    """The decoded JSON. `what` names the document in the error."""
    if len(content) > limit:
        raise InvalidRequest(f"cannot read {what}: {len(content)} bytes, at most {limit} allowed")
    try:
        decoded: object = json.loads(content, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"cannot read {what}: no valid JSON: {error}") from None
    return decoded


def parse_object(content: bytes, what: str, *, limit: int = MAX_DOCUMENT) -> Mapping[str, object]:
    return as_object(parse_document(content, what, limit=limit), what)


def as_object(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"invalid {what}: expected an object, got {_kind(value)}")
    return value


def as_array(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, list):
        raise InvalidRequest(f"invalid {what}: expected an array, got {_kind(value)}")
    return value


def as_text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid {what}: expected a string, got {_kind(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"invalid {what}: not valid unicode") from None
    return value


def as_int(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 63:
        raise InvalidRequest(f"invalid {what}: expected an integer, got {_kind(value)}")
    return value


def object_field(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    """Absent and null are empty, as Go reads them."""
    value = document.get(key)
    return {} if value is None else as_object(value, key)


def array_field(document: Mapping[str, object], key: str) -> Sequence[object]:
    value = document.get(key)
    return () if value is None else as_array(value, key)


def text_field(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return "" if value is None else as_text(value, key)


def int_field(document: Mapping[str, object], key: str) -> int:
    value = document.get(key)
    return 0 if value is None else as_int(value, key)


def bool_field(document: Mapping[str, object], key: str) -> bool:
    value = document.get(key)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"invalid {key}: expected true or false, got {_kind(value)}")
    return value


def texts_field(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    return tuple(as_text(item, key) for item in array_field(document, key))


def text_map_field(document: Mapping[str, object], key: str) -> dict[str, str]:
    return {
        as_text(name, key): as_text(value, f"{key}.{name}")
        for name, value in object_field(document, key).items()
    }


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON number")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
