"""Undecoded JSON -> typed values, or a BadAnswer that says which field is wrong.

Only what the API promises is demanded; Docker leaves out or nulls empty lists and maps freely.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from compose.client.errors import BadAnswer


def mapping(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        _refuse(value, where, "an object")
    return value


def items(value: object, where: str) -> list[object]:
    """A list; null is an empty one."""
    if value is None:
        return []
    if not isinstance(value, list):
        _refuse(value, where, "a list")
    return value


def text(fields: Mapping[str, object], name: str, default: str | None = None) -> str:
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        _refuse(value, name, "a string")
    return value


def number(fields: Mapping[str, object], name: str, default: int | None = None) -> int:
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(value, name, "a number")
    return value


def flag(fields: Mapping[str, object], name: str) -> bool:
    value = fields.get(name, False)
    if value is None:
        return False
    if not isinstance(value, bool):
        _refuse(value, name, "true or false")
    return value


def child(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An object inside; absent or null is an empty one."""
    value = fields.get(name)
    return {} if value is None else mapping(value, name)


def children(fields: Mapping[str, object], name: str) -> list[Mapping[str, object]]:
    return [mapping(item, name) for item in items(fields.get(name), name)]


def texts(fields: Mapping[str, object], name: str) -> tuple[str, ...]:
    found = items(fields.get(name), name)
    return tuple(
        item if isinstance(item, str) else _refuse(item, name, "strings") for item in found
    )


def text_map(fields: Mapping[str, object], name: str) -> dict[str, str]:
    return {
        key: value if isinstance(value, str) else _refuse(value, f"{name}.{key}", "a string")
        for key, value in child(fields, name).items()
    }


def failure(message: Mapping[str, object]) -> str:
    """What a message in a stream says went wrong, "" if it says no such thing. Our own engine has
    `details` besides: lines on where, and what was written last."""
    reason = text(message, "error", "")
    details = text(child(message, "errorDetail"), "details", "") if reason else ""
    return f"{reason}\n{details}" if details else reason


def _refuse(value: object, where: str, wanted: str) -> NoReturn:
    raise BadAnswer(f"the engine's answer has {value!r} for {where}, where {wanted} belongs")
