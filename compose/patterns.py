"""pure: patterns of .dockerignore, as `ignore` and `include` of a watch rule are written.

Paths are relative, with `/`. `*` and `?` stay inside one name, `**` crosses names, a leading `!`
takes back what an earlier pattern matched, and what matches a folder matches all that is in it.
Source: the .dockerignore section of the Dockerfile reference.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Pattern:
    expression: re.Pattern[str]
    takes_back: bool


def parse(text: str) -> Pattern | None:
    """None for a blank line or a comment."""
    text = text.strip()
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    names = [name for name in text.lstrip("!").split("/") if name not in ("", ".")]
    return Pattern(_expression(tuple(names)), takes_back)


def matches(patterns: Sequence[Pattern], path: str) -> bool:
    """The last pattern that has something to say about `path` decides."""
    found = False
    for pattern in patterns:
        if found == pattern.takes_back and pattern.expression.match(path):
            found = not pattern.takes_back
    return found


@cache
def _expression(names: tuple[str, ...]) -> re.Pattern[str]:
    text = ""
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name == "**":
            text += ".*" if last else "(?:.*/)?"
        else:
            text += _name(name) + ("" if last else "/")
    return re.compile(f"{text}(?:/.*)?$", re.DOTALL)


def _name(name: str) -> str:
    text, index = "", 0
    while index < len(name):
        letter = name[index]
        if name.startswith("**", index):
            text, index = text + ".*", index + 1
        elif letter == "*":
            text += "[^/]*"
        elif letter == "?":
            text += "[^/]"
        elif letter == "[" and (end := name.find("]", index + 2)) > 0:
            inside = name[index + 1 : end].replace("\\", "\\\\")
            text, index = text + f"[{inside}]", end
        elif letter == "\\" and index + 1 < len(name):
            index += 1
            text += re.escape(name[index])
        else:
            text += re.escape(letter)
        index += 1
    return text
