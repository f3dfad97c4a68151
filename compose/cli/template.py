"""`--format '{{.Name}} {{json .Labels}}'`: rows as a template says, in the part of Go's language
that people use for it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from compose.cli.render import table
from compose.errors import UsageError

_PART = re.compile(r"\{\{\s*(?P<inside>.*?)\s*\}\}")
_WORDS = re.compile(
    r"(?:(?P<verb>json|upper|lower|len)\s+)?\.(?P<field>\w*)(?:\s*\|\s*(?P<after>json|upper|lower|len))?"
)
_ESCAPES = {"\\t": "\t", "\\n": "\n"}


def is_template(format: str) -> bool:
    return "{{" in format


def templated(format: str, rows: Sequence[Mapping[str, object]]) -> str:
    """One line a row; "table ..." in columns, with the fields' names above. Raises UsageError."""
    for escape, letter in _ESCAPES.items():
        format = format.replace(escape, letter)
    if not format.startswith("table "):
        return "\n".join(_filled(format, row) for row in rows)
    columns = format.removeprefix("table ").strip().split("\t")
    headers = [" ".join(_headers(column)) for column in columns]
    return table(headers, ([_filled(column, row) for column in columns] for row in rows))


def _headers(column: str) -> list[str]:
    names = [_read(part["inside"])[1] for part in _PART.finditer(column)]
    return [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).upper() for name in names]


def _read(inside: str) -> tuple[str, str]:
    """Verb and field."""
    match = _WORDS.fullmatch(inside)
    if match is None:
        raise UsageError(
            f"cannot read {{{{{inside}}}}} in --format\n"
            "  hint: write {{.Name}}, {{json .}}, {{upper .State}} or {{lower .State}}"
        )
    return match["verb"] or match["after"] or "", match["field"]


def _filled(text: str, row: Mapping[str, object]) -> str:
    def value(part: re.Match[str]) -> str:
        verb, field = _read(part["inside"])
        found: object = row
        if field:
            if field not in row:
                raise UsageError(
                    f"there is no .{field} in --format\n  hint: there are: {', '.join(row)}"
                )
            found = row[field]
        match verb:
            case "json":
                return json.dumps(found, separators=(",", ":"), ensure_ascii=False)
            case "upper":
                return str(found).upper()
            case "lower":
                return str(found).lower()
            case "len":
                return str(len(found)) if isinstance(found, str | list | dict) else "0"
        return "" if found is None else str(found)

    return _PART.sub(value, text)
