from __future__ import annotations

from compose.cli.render import table


def test_columns_are_aligned_and_lines_end_without_blanks() -> None:
    assert table(("NAME", "STATUS"), [("web", "Up"), ("database", "")]) == (
        "NAME       STATUS\nweb        Up\ndatabase"
    )
