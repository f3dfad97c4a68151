from __future__ import annotations

from compose.cli.progress import Row, plain_line, visible


def row(subject: str, state: str) -> Row:
    return Row(subject, "creating", "created", "missing", set(), state)


def test_all_rows_are_shown_where_there_is_room() -> None:
    rows = [row("a", "done"), row("b", "working")]
    assert visible(rows, 2) == (rows, 0)
    assert visible(rows, None) == (rows, 0)


def test_what_is_at_work_or_failed_stays_on_the_screen() -> None:
    states = ["done", "failed", "done", "waiting", "working", "working"]
    rows = [row(str(number), state) for number, state in enumerate(states)]
    shown, hidden = visible(rows, 4)
    assert [each.subject for each in shown] == ["1", "4", "5"]
    assert hidden == 3


def test_lines_tell_what_is_done_and_how_long_it_took() -> None:
    done = row("web.1", "done")
    done.began, done.ended = 1.0, 2.5
    assert plain_line(done) == " web.1  created (1.5 s)"
    failed = row("web.1", "failed")
    failed.detail = "no such image"
    assert plain_line(failed) == " web.1  failed: no such image"
