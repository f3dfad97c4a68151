"""A Diagram as a picture, SVG or PNG, drawn with matplotlib (an extra: `graph`)."""

from __future__ import annotations

import io

from compose.diagram.model import Box, Diagram
from compose.errors import UsageError

_COLOURS = {"service": "#dbeafe", "network": "#dcfce7", "volume": "#fef3c7", "config": "#f3e8ff",
            "secret": "#fee2e2"}  # fmt: skip
_WIDTH, _GAP_ACROSS = 2.6, 1.8  # inches
_LINE, _GAP_DOWN = 0.2, 0.35


def picture(diagram: Diagram, format: str) -> bytes:
    """`format`: svg or png. Raises UsageError where matplotlib isn't installed."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
        from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
    except ImportError as error:
        raise UsageError(
            f"cannot draw {format}: matplotlib isn't installed\n"
            "  hint: pip install matplotlib, or choose --format text, mermaid or dot"
        ) from error
    places = _places(diagram)
    width = max((x for x, _ in places.values()), default=0) + _WIDTH + 0.4
    height = max((y + _height(box) for box, y in _tops(diagram, places)), default=0) + 0.8
    with rc_context({"svg.hashsalt": "pycompose", "svg.fonttype": "none"}):
        figure = Figure(figsize=(width, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.axis("off")
        axes.text(0.2, 0.3, diagram.title, fontsize=11, fontweight="bold", va="center")
        middles = {}
        for box in diagram.boxes:
            x, y = places[box.key]
            middles[box.key] = (x, y + _height(box) / 2)
            axes.add_patch(
                FancyBboxPatch(
                    (x, y), _WIDTH, _height(box), boxstyle="round,pad=0,rounding_size=0.08",
                    facecolor=_COLOURS[box.kind], edgecolor="#475569", linewidth=0.8, zorder=2,
                )
            )  # fmt: skip
            said = [box.name if box.kind == "service" else f"{box.kind} {box.name}", *box.lines]
            for index, text in enumerate(said):
                axes.text(
                    x + _WIDTH / 2, y + 0.16 + index * _LINE, _short(text), fontsize=7.5,
                    fontweight="bold" if index == 0 else "normal", ha="center", va="center",
                    zorder=3, parse_math=False,
                )  # fmt: skip
        for line in diagram.lines:
            (x, y), (to_x, to_y) = middles[line.start], middles[line.end]
            start, end = (x + _WIDTH, y), (to_x, to_y)
            axes.add_patch(
                FancyArrowPatch(
                    start, end, arrowstyle="-|>" if line.is_dependency else "-", zorder=1,
                    linestyle="--" if line.is_optional else "-", color="#334155", linewidth=0.8,
                    mutation_scale=9,
                )
            )  # fmt: skip
            if line.words:
                axes.text(
                    (start[0] + end[0]) / 2, (start[1] + end[1]) / 2, _short(line.words),
                    fontsize=6, ha="center", va="center", color="#334155", zorder=4,
                    parse_math=False,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
                )  # fmt: skip
        written = io.BytesIO()
        figure.savefig(written, format=format, dpi=150, metadata=_WITHOUT_DATE[format])
    return written.getvalue()


_WITHOUT_DATE = {"svg": {"Date": None}, "png": None}


def _height(box: Box) -> float:
    return 0.14 + _LINE * (1 + len(box.lines))


def _places(diagram: Diagram) -> dict[str, tuple[float, float]]:
    """Upper left corners: columns by level, from top to bottom in the order of the files."""
    columns = diagram.levels()
    next_free: dict[int, float] = {}
    places = {}
    for box in diagram.boxes:
        column = columns[box.key]
        top = next_free.get(column, 0.6)
        places[box.key] = (0.2 + column * (_WIDTH + _GAP_ACROSS), top)
        next_free[column] = top + _height(box) + _GAP_DOWN
    return places


def _tops(diagram: Diagram, places: dict[str, tuple[float, float]]) -> list[tuple[Box, float]]:
    return [(box, places[box.key][1]) for box in diagram.boxes]


def _short(text: str) -> str:
    return text if len(text) <= 44 else f"{text[:43]}…"
