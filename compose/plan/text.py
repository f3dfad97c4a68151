"""pure: a Plan as the lines that users and tests read."""

from __future__ import annotations

from compose.plan.plan import Plan

GAP = "   "


def text(plan: Plan, *, positions: bool = False) -> str:
    """One line a change: what, why, after what. `positions` adds where the cause stands, below it
    each field where several changed, and at the end what is interrupted."""
    waits = plan.waits_for()
    rows = [
        (
            str(change),
            change.cause,
            f"after: {', '.join(waits[index])}" if waits.get(index) else "",
            str(change.at) if positions and change.at else "",
        )
        for index, change in enumerate(plan.changes)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines: list[str] = []
    for row, change in zip(rows, plan.changes, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width)
        lines.append(GAP.join(cells).rstrip())
        if positions and len(change.fields) > 1:
            width = max(len(each.words) for each in change.fields)
            lines += [
                f"  {each.words.ljust(width)}{GAP}{each.at or ''}".rstrip()
                for each in change.fields
            ]
    if positions and plan.interrupted:
        lines.append(f"interrupted meanwhile: {', '.join(plan.interrupted)}")
    return "".join(f"{line}\n" for line in lines)
