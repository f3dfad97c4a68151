"""Pure: .dockerignore. Paths are relative, with `/`; the last pattern that matches decides.

Source: the .dockerignore section of the Dockerfile reference, and Go's filepath.Match.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Pattern:
    expression: re.Pattern[str]
    takes_back: bool


def parse_ignore(text: str) -> tuple[Pattern, ...]:
    return tuple(
        pattern
        for line in text.removeprefix("\ufeff").splitlines()
        if (pattern := _pattern(line)) is not None
    )


def _pattern(line: str) -> Pattern | None:
    """None for a blank line or a comment."""
    if line.startswith("#") or not line.strip():
        return None
    text = line.strip()
    takes_back = text.startswith("!")
    names: list[str] = []
    for name in text.removeprefix("!").strip().split("/"):
        if name == "..":
            names = names[:-1]
        elif name not in ("", "."):
            names.append(name)
    try:
        expression = re.compile(path_expression(names) + "(?:/.*)?", re.DOTALL)
    except re.error:
        raise InvalidRequest(f"syntax error in pattern {line.strip()!r}") from None
    return Pattern(expression, takes_back)


def is_ignored(patterns: Sequence[Pattern], path: str) -> bool:
    found = False
    for pattern in patterns:
        if found == pattern.takes_back and pattern.expression.fullmatch(path):
            found = not pattern.takes_back
    return found


def path_expression(names: Sequence[str]) -> str:
    """Of a pattern's components: `*` and `?` stay inside one name, `**` crosses them. Raises
    InvalidRequest."""
    text = ""
    for index, name in enumerate(names):
        last = index == len(names) - 1
        if name == "**":
            text += ".*" if last else "(?:.*/)?"
        else:
            text += _name(name) + ("" if last else "/")
    return text


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
        elif letter == "[":
            end = name.find("]", index + 2)
            if end < 0:
                raise InvalidRequest(f"syntax error in pattern {name!r}")
            inside = name[index + 1 : end].replace("\\", "\\\\").replace("[", "\\[")
            text, index = text + f"[{inside}]", end
        elif letter == "\\" and index + 1 < len(name):
            index += 1
            text += re.escape(name[index])
        else:
            text += re.escape(letter)
        index += 1
    return text
