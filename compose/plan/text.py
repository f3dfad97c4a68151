"""pure: a Plan as the lines that users and tests read."""

from __future__ import annotations

from compose.plan.plan import Plan

GAP = "   "


def text(plan: Plan, *, positions: bool = False) -> str:
    """One line a change: what, why, after what. `positions` adds where the cause stands."""
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
    return "".join(
        GAP.join(
            cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width
        ).rstrip()
        + "\n"
        for row in rows
    )
