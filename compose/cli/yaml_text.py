"""JSON data as YAML text, laid out as Docker Compose's `config` lays it out. Pure.

Two spaces a level, also below a list's key; texts plain where they can be, in double quotes where
they would read as something else, in single quotes where a sign is in the way; lines as a block.
"""

import io
import re
from collections.abc import Iterator
from functools import cmp_to_key

from yaml.emitter import Emitter

from compose.load.tree import plain_value

# What YAML 1.1 takes for truths: other programs may still do so.
_OLD_TRUTHS = frozenset(
    (
        "y",
        "Y",
        "yes",
        "Yes",
        "YES",
        "on",
        "On",
        "ON",
        "n",
        "N",
        "no",
        "No",
        "NO",
        "off",
        "Off",
        "OFF",
    )
)


_BEYOND = re.compile("[\U00010000-\U0010ffff]")  # Compose's writer escapes these
# YAML 1.1 reads 12:30 as 750.
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


def yaml_text(document: object) -> str:
    return "".join(f"{line}\n" for line in _lines(document))


def _lines(value: object) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _entry(f"{_text(str(key))}:", inner)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from _item(inner)
    else:
        yield from _leaf(value)


def _entry(key: str, value: object) -> Iterator[str]:
    if isinstance(value, dict | list) and value:
        yield key
        yield from (f"  {line}" if line else "" for line in _lines(value))
    else:
        first, *rest = _leaf(value)
        yield f"{key} {first}"
        yield from (f"  {line}" if line else "" for line in rest)


def _item(value: object) -> Iterator[str]:
    first, *rest = _lines(value)
    yield f"- {first}"
    yield from (f"  {line}" if line else "" for line in rest)


def _leaf(value: object) -> list[str]:
    match value:
        case None:
            return ["null"]
        case True | False:
            return ["true" if value else "false"]
        case str():
            return _block(value) if _is_block(value) else [_text(value)]
        case dict():
            return ["{}"]
        case list():
            return ["[]"]
    return [str(value)]


_emitter = Emitter(io.StringIO(), allow_unicode=True)  # asked only what a text may look like


def _is_block(text: str) -> bool:
    return (
        "\n" in text
        and not _BEYOND.search(text)
        and bool(_emitter.analyze_scalar(text).allow_block)
    )


def _block(text: str) -> list[str]:
    """`|`, with - where no line end follows, + where several do, 2 where blanks lead."""
    sign = "|" + ("2" if text[0] in " \n" else "")
    if not text.endswith("\n"):
        return [f"{sign}-", *text.split("\n")]
    body = text[:-1].split("\n")
    return [sign + ("+" if text.endswith("\n\n") or text == "\n" else ""), *body]


def _text(text: str) -> str:
    if not text or text in _OLD_TRUTHS or type(plain_value(text)) is not str:
        return _double(text)
    if _BASE_60.fullmatch(text) or _BEYOND.search(text):
        return _double(text)
    found = _emitter.analyze_scalar(text)
    if not found.allow_single_quoted or "\n" in text:
        return _double(text)
    if found.allow_block_plain:
        return text
    return "'" + text.replace("'", "''") + "'"


_ESCAPES = {
    "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\0": "\\0", "\a": "\\a",
    "\b": "\\b", "\f": "\\f", "\v": "\\v", "\x1b": "\\e", "\x85": "\\N", "\xa0": "\\_",
    "\u2028": "\\L", "\u2029": "\\P",
}  # fmt: skip


def _double(text: str) -> str:
    return '"' + "".join(_escaped(letter) for letter in text) + '"'


def _escaped(letter: str) -> str:
    known = _ESCAPES.get(letter)
    if known is not None:
        return known
    code = ord(letter)
    if code > 0xFFFF:
        return f"\\U{code:08X}"
    if letter.isprintable() or code == 0xFE0F:
        return letter
    return f"\\x{code:02X}" if code < 0x100 else f"\\u{code:04X}"


# ---- the order of keys ----


def _order(one: str, other: str) -> int:
    """Letters after other signs, and numbers by their value: a2 before a10, A_B before AB."""
    after_digit = False
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a == b:
            after_digit = a.isdigit()
            continue
        if a.isalpha() and b.isalpha():
            return -1 if a < b else 1
        if a.isalpha() or b.isalpha():
            return -1 if (a if after_digit else b).isalpha() else 1
        led = bool(re.search(r"[1-9]0*$", one[:index])) and "0" in (a, b)
        first, second = (_number(text[index:]) for text in (one, other))
        sizes = [
            (int(f"1{digits}" if led else digits or "0"), len(digits)) for digits in (first, second)
        ]
        if sizes[0] != sizes[1]:
            return -1 if sizes[0] < sizes[1] else 1
        return -1 if a < b else 1
    return len(one) - len(other)


def _number(text: str) -> str:
    found = re.match(r"[0-9]*", text)
    return found[0] if found else ""


in_key_order = cmp_to_key(_order)
