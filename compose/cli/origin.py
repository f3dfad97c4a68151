"""`config --origin`: each value of the canonical form, and which file and line set it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from compose.model.project import Place, Project, dotted
from compose.position import Position

DEFAULT = "(default)"


def origin_text(document: dict[str, object], project: Project, format: str) -> str:
    rows = [(place, value, origin(project, place)) for place, value in _leaves(document, ())]
    if format == "json":
        found = [
            {
                "path": dotted(place),
                "value": value,
                "file": at.file if at else None,
                "line": at.line if at else None,
                "column": at.column if at else None,
            }
            for place, value, at in rows
        ]
        return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    width = max((len(str(at or DEFAULT)) for *_, at in rows), default=0)
    return "".join(
        f"{at or DEFAULT!s:{width}}  {dotted(place)}: {json.dumps(value, ensure_ascii=False)}\n"
        for place, value, at in rows
    )


def _leaves(value: object, place: Place) -> Iterator[tuple[Place, object]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*place, key))
    elif isinstance(value, list) and value:
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*place, index))
    else:
        yield place, value


def origin(project: Project, place: Place) -> Position | None:
    """None for what no file says."""
    at = project.positions.get(place)
    if at is None and place and isinstance(place[-1], int):
        return project.positions.get(place[:-1])  # one of several that a short form stands for
    return at
