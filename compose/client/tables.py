"""Rows -> what `--format` asks for: a table, JSON lines, or a template for each row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from compose.client.template import Template, fields_of, parse_template, to_json

Row = Mapping[str, object]
# A cell is at least ten wide, and three blanks follow it: Docker's tables, column for column.
_LEAST, _GAP = 10, 3
# Docker's lines are made for web pages, too; its templates' `json` isn't.
_IN_HTML = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&"})
# In a shell's single quotes these come as two characters each.
_ESCAPES = ((r"\t", "\t"), (r"\n", "\n"))


def print_rows(
    rows: Iterable[Row],
    format: str,
    *,
    titles: Mapping[str, str],
    columns: Sequence[str],
    quiet: str = "",
) -> None:
    if text := show(rows, format, titles=titles, columns=columns, quiet=quiet):
        print(text)


def show(
    rows: Iterable[Row],
    format: str,
    *,
    titles: Mapping[str, str] = MappingProxyType({}),
    columns: Sequence[str] = (),
    quiet: str = "",
) -> str:
    """Lines for `rows`, without the last line's end. `titles`: field -> its column's title, where
    that isn't the field's name in capitals. `columns`: the fields of the table if the format names
    none. `quiet`: the field that is shown instead of a table. Raises UsageError for a template that
    doesn't fit."""
    if format == "json":
        return "\n".join(json_line(row) for row in rows)
    word, _, written = format.partition(" ")
    if format and word != "table":
        template = _parse(format)
        return "\n".join(template.render(row) for row in rows)
    if quiet:
        return "\n".join(str(row[quiet]) for row in rows)
    text = written or r"\t".join(f"{{{{.{name}}}}}" for name in columns)
    template = _parse(text.strip())
    # A title for each field, also for such as `.Label "role"`, which is a call.
    named = {name: titles.get(name, _title(name)) for name in fields_of(template)}
    heading = {**named, "Label": lambda name: str(name).rpartition(".")[2]}
    return aligned([template.render(row) for row in (heading, *rows)])


def is_template(format: str) -> bool:
    return "{{" in format


def _title(field: str) -> str:
    """ExitCode -> EXIT CODE"""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", field).upper()


def json_line(row: Row) -> str:
    text = to_json({name: row[name] for name in sorted(row) if not callable(row[name])})
    return text.translate(_IN_HTML)


def aligned(lines: Sequence[str]) -> str:
    """Cells, parted by tabs, one below the other."""
    cells = [line.split("\t") for line in lines]
    widths: dict[int, int] = {}
    for row in cells:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths.get(index, _LEAST), len(cell) + _GAP)
    return "\n".join(
        ("".join(cell.ljust(widths[i]) for i, cell in enumerate(row[:-1])) + row[-1]).rstrip()
        for row in cells
    )


def _parse(text: str) -> Template:
    for written, meant in _ESCAPES:
        text = text.replace(written, meant)
    return parse_template(text)
