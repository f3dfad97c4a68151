from __future__ import annotations

from compose.apply.listener import Pulling
from compose.cli.progress import Board, Row, summary
from compose.client.images import Progress


def test_a_pull_is_told_by_its_layers() -> None:
    board = Board()
    board.rows = {
        number: Row(f"image {name}", "pulling", "pulled", "missing", {name})
        for number, name in enumerate(("box:10", "box:1"))
    }
    details = []
    for status, layer, current in (
        ("Pulling from library/box", "1", 0),
        ("Already exists", "a", 0),
        ("Pulling fs layer", "b", 0),
        ("Downloading", "b", 50),
        ("Extracting", "b", 200),
        ("Pull complete", "b", 0),
        ("Digest: sha256:0", "", 0),
    ):
        progress = Progress(status, layer, current, 200 if current else 0)
        assert board.take(Pulling("box:1", progress)) is None
        details.append(board.rows[1].detail)
    assert details == [
        "",
        "1 of 1 layers",
        "1 of 2 layers",
        "1 of 2 layers, downloading 25 %",
        "1 of 2 layers, extracting 100 %",
        "2 of 2 layers",
        "2 of 2 layers",
    ]
    assert board.rows[0].detail == ""


def test_the_end_says_what_was_done() -> None:
    board = Board()
    ends = [("created", "done"), ("started", "done"), ("started", "done"), ("started", "failed")]
    for number, (done, state) in enumerate(ends):
        row = Row(f"r{number}", "doing", done, "", set(), state, began=1.0 + number, ended=2.5)
        board.rows[number] = row
    assert summary(board) == "1 created, 2 started, 1 failed in 1.5 s"
    board.rows = dict(list(board.rows.items())[:2])
    assert summary(board) == ""
