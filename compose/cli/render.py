"""Results as text: aligned tables and JSON. What is printed here goes to standard output."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from compose.client.human import shorten

GAP = "   "
Format = Annotated[str, typer.Option("--format", help="table or json.", metavar="FORMAT")]


def check_format(
    format: str, allowed: Sequence[str] = ("table", "json"), *, templates: bool = False
) -> None:
    """`templates`: also lines such as '{{.Name}}', see compose/client/template.py."""
    if format in allowed or (templates and "{{" in format):
        return
    known = ", ".join(allowed) + (", and no template such as '{{.Name}}'" if templates else "")
    raise typer.BadParameter(f"--format: {format!r} is none of {known}")


def table(
    headers: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    fit: bool = True,
    firm: Collection[str] = (),
    spare: Sequence[str] = (),
) -> str:
    """Columns aligned to the left, three spaces apart, no line ends in blanks. On a terminal the
    widest columns are shortened until a line fits, unless `fit` says not to. Before those of the
    headers `firm` are, the columns `spare` are left out, one after the other."""
    lines = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headers))]
    if fit and sys.stdout.isatty():
        room = shutil.get_terminal_size().columns
        left = kept(headers, widths, room, firm, spare)
        lines = [tuple(line[index] for index in left) for line in lines]
        places = [place for place, index in enumerate(left) if headers[index] in firm]
        widths = fitted([widths[index] for index in left], room, places)
    return "\n".join(
        GAP.join(
            shorten(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


NARROWEST = 8  # no column is made narrower


def kept(
    headers: Sequence[str],
    widths: Sequence[int],
    room: int,
    firm: Collection[str],
    spare: Sequence[str],
) -> list[int]:
    """The places of the columns that a line of `room` letters has, the `firm` ones whole."""
    found = list(range(len(headers)))
    for header in spare:
        least = [
            widths[index] if headers[index] in firm else min(widths[index], NARROWEST)
            for index in found
        ]
        if sum(least) + len(GAP) * (len(found) - 1) <= room:
            break
        found.remove(headers.index(header))
    return found


def fitted(widths: Sequence[int], room: int, firm: Collection[int] = ()) -> list[int]:
    """The widths for lines of `room` letters; the widest give way first, those at the places `firm`
    after all others."""
    found = [*widths]
    excess = sum(found) + len(GAP) * (len(found) - 1) - room
    for giving in ([place for place in range(len(found)) if place not in firm], firm):
        while excess > 0 and max((found[place] for place in giving), default=0) > NARROWEST:
            found[max(giving, key=found.__getitem__)] -= 1
            excess -= 1
    return found


def json_lines(documents: Iterable[Mapping[str, object]]) -> str:
    """One object a line, as `docker compose ps --format json` writes them."""
    return "\n".join(
        json.dumps(document, separators=(",", ":"), ensure_ascii=False) for document in documents
    )


def json_array(documents: Iterable[Mapping[str, object]]) -> str:
    """One array on one line, as `docker compose ls --format json` writes it."""
    return json.dumps(list(documents), separators=(",", ":"), ensure_ascii=False)


def stamp(moment: float) -> str:
    """Seconds since the epoch as RFC 3339 with microseconds, in UTC."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
