"""pure: a Plan as the lines that users and tests read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from compose.plan.plan import Change, Plan

GAP = "   "
INDENT = "  "


def text(plan: Plan) -> str:
    """One line a change: what, why, after what."""
    waits = plan.waits_for()
    rows = [
        (str(change), change.cause, f"after: {', '.join(waits[index])}" if waits.get(index) else "")
        for index, change in enumerate(plan.changes)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = (
        GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def page(plan: Plan, width: int | None = 80) -> str:
    """The same for a person: also where the causes stand, below a change each of its fields where
    several changed and what it waits for, and what is interrupted. `width`: columns, None: as many
    as it takes."""
    waits = plan.waits_for()
    margin = max((len(str(change)) for change in plan.changes), default=0) + len(GAP)
    rows: list[tuple[str, str]] = []  # words, and what stands at the right margin
    told: dict[str, str] = {}  # fields, as text: they may hold lists -> of whom they were told
    for index, change in enumerate(plan.changes):
        rows += _rows(change, margin, told)
        if after := waits.get(index):
            rows.append((f"{INDENT}after {', '.join(after)}", ""))
    if plan.interrupted:
        rows.append((f"interrupted meanwhile: {', '.join(plan.interrupted)}", ""))
    places = max((len(at) for _, at in rows), default=0)
    rows = [(words, at and at.ljust(places)) for words, at in rows]
    longest = max((len(words) + len(GAP) * bool(at) + len(at) for words, at in rows), default=0)
    room = min(width or longest, longest)
    return "".join(f"{line}\n" for words, at in rows for line in _lines(words, at, room))


def _rows(change: Change, margin: int, told: dict[str, str]) -> Iterator[tuple[str, str]]:
    head, fields = str(change).ljust(margin), change.fields
    known = repr(fields)
    if len(fields) < 2:
        yield f"{head}{change.cause}", str(change.at or "")
    elif known in told:
        yield f"{head}{len(fields)} fields changed, as of {told[known]}", ""
    else:
        told[known] = change.subject
        yield f"{head}{len(fields)} fields changed", ""
        yield from ((f"{INDENT}{each.words}", str(each.at or "")) for each in fields)


def _lines(words: str, at: str, width: int) -> Sequence[str]:
    """The place comes below where there isn't room beside."""
    room = width - len(words)
    if len(at) + len(GAP) * bool(at) <= room:
        return [f"{words}{at.rjust(room)}".rstrip()]
    indent = INDENT if words.startswith(INDENT) else ""
    wrapped = textwrap.wrap(
        words, width, subsequent_indent=indent + INDENT,
        break_long_words=False, break_on_hyphens=False, replace_whitespace=False,
    )  # fmt: skip
    return [*wrapped, *([at.rjust(width).rstrip()] if at else ())]
