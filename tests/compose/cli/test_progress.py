from __future__ import annotations

import os
import sys
from dataclasses import replace

from compose.apply import listener as report
from compose.apply.listener import Pulling, Readying, Replacing
from compose.cli.progress import Board, Row, plain_line, summary
from compose.client.images import Progress
from compose.plan.actions import (
    CreateContainer,
    Existing,
    Pace,
    Planned,
    RemoveContainer,
    StartContainer,
    Turn,
    UpdateService,
)
from compose.plan.plan import Change, Plan, Step, Verb
from tests.terminal import Terminal


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
        "━━━━━━━━━━━━ 1 of 1 layers",
        "━━━━━━────── 1 of 2 layers",
        "━━━━━━────── 1 of 2 layers",
        "━━━━━━━━━━━─ 1 of 2 layers",
        "━━━━━━━━━━━━ 2 of 2 layers",
        "━━━━━━━━━━━━ 2 of 2 layers",
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


def test_what_a_later_plan_says_anew_is_told_once() -> None:
    board = Board()
    build = Step("build", CreateContainer("web", "web", "image"), 0)
    create = Step("create", CreateContainer("web", "web", "web"), 1)
    changes = (Change(Verb.BUILD, "image web", "missing"), Change(Verb.CREATE, "web", "missing"))
    board.take(report.Planned(Plan("demo", changes, (build, create))))
    board.take(report.Started(build))
    board.take(report.Finished(build))
    again = replace(create, change=0)
    board.take(report.Planned(Plan("demo", changes[1:], (again,))))
    board.take(report.Started(again))
    rows = [(row.subject, row.state) for row in board.rows.values()]
    assert rows == [("image web", "done"), ("web", "working")]


def test_of_an_update_the_turns_are_told() -> None:
    old, new = Existing("1" * 64, "demo-web-1"), Planned("web.1")
    turn = Turn(
        "web.1", "demo-web-1", "interim", "aside", old, new, None, StartContainer(new),
        RemoveContainer(old), can_overlap=False,
    )  # fmt: skip
    create = Step("create web.1", CreateContainer("web.1", "web", "interim"), 0)
    remove = Step("remove web.1 aside", RemoveContainer(old), 1)
    update = Step("update web", UpdateService("web", (turn,), Pace(monitor=2), Pace()))
    changes = (Change(Verb.RECREATE, "web.1", "x"), Change(Verb.REMOVE, "web.1", "left over"))
    planned = report.Planned(Plan("demo", changes, (create, remove, update)))
    board = Board()
    board.take(planned)
    assert board.take(report.Started(create)) is None
    assert board.take(report.Finished(create)) is None
    states = []
    for state in ("working", "done", "failed", "taken back"):
        row = board.take(Replacing("web.1", state))
        assert row is not None
        states.append(row.state)
    assert states == ["working", "done", "failed", "skipped"]
    row = board.take(report.Started(update))
    assert row is not None
    assert (row.subject, row.cause) == ("web", "each is watched for 2 s")
    row = board.take(report.Finished(remove))  # the same slot's, and none of its turns
    assert row is not None
    assert row.state == "done"

    # An update that never begins: what was made for it goes again.
    board = Board()
    board.take(planned)
    board.take(report.Finished(create))
    board.take(report.Skipped(update, "update db"))
    row = board.take(report.Undone(create))
    assert row is not None
    assert (row.subject, row.state, row.detail) == ("web.1", "skipped", "taken back")


DRAWING = """
import fcntl, sys, termios
from compose.cli.progress import Board, live_table
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
with live_table(Board()):
    print("drawing")
    sys.stdin.readline()
print("drawn")
sys.stdin.readline()
"""


def test_what_is_to_be_ready_at_the_end_has_a_row() -> None:
    times = iter((1.0, 1.5, 2.0, 2.5))
    board = Board(clock=lambda: next(times))
    told = [
        plain_line(board.take(Readying(*said)) or Row("", "", "", "", set()))
        for said in (
            ("web.1", "healthy", "working"),
            ("job.1", "up", "working"),
            ("web.1", "healthy", "done"),
            ("job.1", "up", "failed", "container job-1 exited with code 3"),
        )
    ]
    assert [" ".join(line.split()) for line in told] == [
        "web.1 waiting until healthy",
        "job.1 waiting until up",
        "web.1 healthy (1.0 s)",
        "job.1 failed: container job-1 exited with code 3",
    ]


def test_what_is_typed_meanwhile_does_not_show() -> None:
    terminal = Terminal([sys.executable, "-c", DRAWING], os.environ)
    terminal.read_until("drawing")
    terminal.type("hidden\n")
    terminal.read_until("drawn")
    terminal.type("shown\n")
    assert terminal.end() == 0
    assert "hidden" not in terminal.text
    assert "shown" in terminal.text
