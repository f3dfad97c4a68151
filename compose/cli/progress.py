"""What happens while a plan is applied, on standard error: a live table on a terminal, one line an
event elsewhere, JSON lines on request, nothing but errors in CI.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import field
from typing import TYPE_CHECKING, TextIO

from compose.apply.listener import (
    Building,
    Failed,
    Finished,
    Hooked,
    Listener,
    Note,
    Planned,
    Pulling,
    Pushing,
    Readying,
    Replacing,
    Report,
    Skipped,
    Started,
    Undone,
    silent,
)
from compose.cli.context import Context
from compose.client.images import Progress
from compose.dataclass import dataclass
from compose.model.service import Condition
from compose.plan.actions import AwaitCondition, StartContainer, UpdateService
from compose.plan.plan import Plan, Step, Verb

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.table import Table

PAST = {
    Verb.PULL: "pulled",
    Verb.BUILD: "built",
    Verb.PUSH: "pushed",
    Verb.CREATE: "created",
    Verb.RECREATE: "recreated",
    Verb.START: "started",
    Verb.UNPAUSE: "unpaused",
    Verb.PAUSE: "paused",
    Verb.RESTART: "restarted",
    Verb.RENAME: "renamed",
    Verb.UPDATE: "updated",
    Verb.STOP: "stopped",
    Verb.KILL: "killed",
    Verb.REMOVE: "removed",
}
DOING = {
    Verb.STOP: "stopping",
    Verb.PULL: "pulling",
    Verb.BUILD: "building",
    Verb.PUSH: "pushing",
    Verb.CREATE: "creating",
    Verb.RECREATE: "recreating",
    Verb.START: "starting",
    Verb.UNPAUSE: "unpausing",
    Verb.PAUSE: "pausing",
    Verb.RESTART: "restarting",
    Verb.RENAME: "renaming",
    Verb.UPDATE: "updating",
    Verb.KILL: "killing",
    Verb.REMOVE: "removing",
}
LAYER_DONE = ("Pull complete", "Already exists", "Pushed", "Layer already exists", "Mounted from")
# From which share of a layer to which; just short of whole, which only its end says.
STAGES = {
    "Downloading": (0.0, 0.5),
    "Verifying Checksum": (0.5, 0.5),
    "Download complete": (0.5, 0.5),
    "Extracting": (0.5, 0.99),
    "Pushing": (0.0, 0.99),
}
BAR = 12  # columns
WANTED = {
    Condition.STARTED: "started",
    Condition.HEALTHY: "healthy",
    Condition.COMPLETED: "completed",
}


@dataclass(slots=True)
class Row:
    """One line of the table: a change of the plan, or something that is waited for."""

    subject: str
    doing: str
    done: str
    cause: str
    left: set[str]  # keys of its steps that aren't finished
    state: str = "waiting"  # waiting, working, done, failed, skipped
    detail: str = ""
    began: float = 0.0
    ended: float = 0.0
    layers: dict[str, float] = field(default_factory=dict)  # of an image: layer -> share done
    steps: frozenset[str] = frozenset()  # keys of all of them


@dataclass(slots=True)
class Board:
    """Pure: reports in, rows out. `clock` gives seconds."""

    clock: Callable[[], float] = time.monotonic
    rows: dict[int | str, Row] = field(default_factory=dict)

    def take(self, report: Report) -> Row | None:
        """The row that the report changed, if it changed what a person would see."""
        match report:
            case Planned(plan):
                self._add(plan)
            case Started(step):
                return self._begin(step)
            case Finished(step):
                return self._finish(step)
            case Failed(step, error):
                return self._end(step, "failed", str(error).splitlines()[0])
            case Skipped(step, because):
                return self._end(step, "skipped", because)
            case Undone(step):
                return self._take_back(step)
            case Replacing(slot, state, detail):
                return self._replace(slot, state, detail)
            case Readying():
                return self._ready(report)
            case Pulling(reference, progress) | Pushing(reference, progress):
                self._move(reference, progress)
            case Building(reference, line):
                self._build(reference, line)
            case Hooked() | Note():
                return None
        return None

    def _add(self, plan: Plan) -> None:
        # What an earlier plan had not begun, as after a build, is this one's to say anew.
        self.rows = {key: row for key, row in self.rows.items() if row.state != "waiting"}
        start = 1 + max((key for key in self.rows if isinstance(key, int)), default=-1)
        replaced = {
            turn.slot
            for step in plan.steps
            if isinstance(step.action, UpdateService)
            for turn in step.action.turns
        }
        for index, change in enumerate(plan.changes):
            steps = [step for step in plan.steps if step.change == index]
            done = PAST[change.verb]
            if change.verb is Verb.CREATE and any(
                isinstance(step.action, StartContainer) for step in steps
            ):
                done = "started"
            left = {step.key for step in steps}
            if change.verb is Verb.RECREATE and change.subject in replaced:
                left.add(f"replace {change.subject}")
            self.rows[start + index] = Row(
                change.subject, DOING[change.verb], done, change.cause, left, steps=frozenset(left)
            )

    def _row(self, step: Step) -> Row | None:
        if step.change is not None:
            return next((row for row in self.rows.values() if step.key in row.left), None)
        if isinstance(step.action, AwaitCondition):
            wanted = WANTED[step.action.condition]
            row = Row(step.action.service, f"waiting until {wanted}", wanted, "", {step.key})
            return self.rows.setdefault(step.key, row)
        if isinstance(step.action, UpdateService):
            pace = step.action.update
            cause = f"each is watched for {pace.monitor:g} s"
            row = Row(step.action.service, DOING[Verb.UPDATE], PAST[Verb.UPDATE], cause, {step.key})
            return self.rows.setdefault(step.key, row)
        return None

    def _begin(self, step: Step) -> Row | None:
        row = self._row(step)
        if row is None or row.state != "waiting" or f"replace {row.subject}" in row.left:
            return None  # of an update its turns are told: that all was made before is nothing yet
        row.state, row.began = "working", self.clock()
        return row

    def _finish(self, step: Step) -> Row | None:
        row = self._row(step)
        if row is None:
            return None
        row.left.discard(step.key)
        if row.left or row.state == "failed":
            return None
        row.state, row.ended, row.detail = "done", self.clock(), ""
        return row

    def _end(self, step: Step, state: str, detail: str) -> Row | None:
        row = self._row(step)
        if row is None or row.state in ("failed", "skipped"):
            return None
        row.state, row.detail, row.ended = state, detail, self.clock()
        return row

    def _take_back(self, step: Step) -> Row | None:
        """It was finished, but perhaps not the change that it belongs to."""
        row = next((row for row in self.rows.values() if step.key in row.steps), None)
        if row is None or row.state == "failed":
            return None
        row.state, row.detail, row.ended = "skipped", "taken back", self.clock()
        return row

    def _replace(self, slot: str, state: str, detail: str) -> Row | None:
        """A turn of an update."""
        row = next(row for row in self.rows.values() if f"replace {slot}" in row.left)
        if state == "working":
            row.state, row.began = state, row.began or self.clock()
            return row
        row.state, row.ended = state, self.clock()
        if state == "taken back":
            row.state, detail = "skipped", state
        row.detail = detail
        return row

    def _ready(self, report: Readying) -> Row:
        key, doing = f"ready {report.slot}", f"waiting until {report.wanted}"
        if key not in self.rows:
            began = self.clock()
            self.rows[key] = Row(report.slot, doing, report.wanted, "", set(), began=began)
        row = self.rows[key]
        row.state, row.detail = report.state, report.detail
        row.ended = 0.0 if report.state == "working" else self.clock()
        return row

    def _move(self, reference: str, progress: Progress) -> None:
        subject = f"image {reference}"
        row = next((row for row in self.rows.values() if row.subject == subject), None)
        # What comes first has the tag where others have their layer.
        if row is None or not progress.layer or progress.status.startswith("Pulling from"):
            return
        before = row.layers.get(progress.layer, 0.0)
        row.layers[progress.layer] = max(before, share_done(progress))
        shares = row.layers.values()
        row.detail = f"{bar(sum(shares) / len(shares))} {sum(share == 1 for share in shares)}"
        row.detail += f" of {len(shares)} layers"

    def _build(self, reference: str, line: str) -> None:
        subject = f"image {reference}"
        row = next((row for row in self.rows.values() if row.subject == subject), None)
        if row is not None and line.startswith("Step "):
            row.detail = line.removeprefix("Step ")


def share_done(progress: Progress) -> float:
    """Of a layer. To come and to be unpacked are half of a pull each."""
    if progress.status.startswith(LAYER_DONE):
        return 1.0
    begin, end = STAGES.get(progress.status, (0.0, 0.0))
    part = progress.current / progress.total if progress.total else 0.0
    return begin + (end - begin) * min(part, 1.0)


def bar(share: float) -> str:
    filled = int(share * BAR)
    return "━" * filled + "─" * (BAR - filled)


def plain_line(row: Row) -> str:
    words = {"working": row.doing, "done": row.done, "waiting": "waiting"}.get(row.state, row.state)
    took = f" ({row.ended - row.began:.1f} s)" if row.state == "done" and row.began else ""
    why = f": {row.detail}" if row.detail else ""
    return f" {row.subject}  {words}{took}{why}"


@contextmanager
def progress(
    context: Context, *, quiet: bool = False, builds: TextIO | None = None
) -> Iterator[Listener]:
    """A listener that shows what is reported, as the options and the kind of output ask for.
    `builds`: where it goes what they write, line by line; None: where the rest goes."""
    kind = "quiet" if quiet else chosen(context)
    board = Board()
    if kind == "quiet":
        yield notes_only
        return
    output = sys.stdout if context.is_on("COMPOSE_STATUS_STDOUT") else sys.stderr
    if kind == "tty":
        with live_table(board) as listener:
            yield _without_steps(context, listener)
    elif kind == "json":
        from compose.cli.progress_json import JsonLines

        yield JsonLines(output)
    else:
        listener = with_builds(line_by_line(plain_line, output, board), builds or output)
        yield _without_steps(context, listener)
    if said := summary(board):
        print(said, file=output, flush=True)


def summary(board: Board) -> str:
    """What was done, in a line; "" where the rows themselves say as much."""
    rows = [row for row in board.rows.values() if row.state in MARKS]
    if len(rows) < 3:
        return ""
    words = Counter(row.done if row.state == "done" else row.state for row in rows)
    took = max(row.ended for row in rows) - min(row.began or row.ended for row in rows)
    return f"{', '.join(f'{count} {word}' for word, count in words.items())} in {took:.1f} s"


def _without_steps(context: Context, listener: Listener) -> Listener:
    """Without what --quiet-pull and --quiet-build leave out."""
    unwanted = (*[Pulling] * context.quiet_pulls, *[Building] * context.quiet_builds)

    def listen(report: Report, /) -> None:
        if not isinstance(report, unwanted):
            listener(report)

    return listen if unwanted else listener


def chosen(context: Context) -> str:
    if context.progress != "auto":
        return context.progress
    if sys.stderr.isatty() and context.environment.get("TERM") != "dumb":
        return "tty"
    return "quiet" if context.environment.get("CI") else "plain"


def notes_only(report: Report, /) -> None:
    if isinstance(report, Note):
        print(f"warning: {report.text}", file=sys.stderr, flush=True)
    else:
        silent(report)


def line_by_line(
    write: Callable[[Row], str], output: TextIO | None = None, board: Board | None = None
) -> Listener:
    """On standard error, if no other output is given; what hooks write with what else containers
    do."""
    board = board or Board()

    def listen(report: Report, /) -> None:
        notes_only(report)
        if isinstance(report, Hooked):
            print(hook_line(report), flush=True)
        if row := board.take(report):
            print(write(row), file=output or sys.stderr, flush=True)

    return listen


def with_builds(listener: Listener, output: TextIO) -> Listener:
    def listen(report: Report, /) -> None:
        listener(report)
        if isinstance(report, Building) and report.line:
            print(f"{report.reference} | {report.line}", file=output, flush=True)

    return listen


def hook_line(report: Hooked) -> str:
    return f"{report.container} | {report.line}"


@contextmanager
def live_table(board: Board) -> Iterator[Listener]:
    """Rich is imported when there is something to show: a no-op `up` doesn't pay for it."""
    live: Live | None = None

    def listen(report: Report, /) -> None:
        nonlocal live
        board.take(report)
        if live is None and board.rows:
            print(end="\r", file=sys.stderr)  # letters may have been typed before
            live = open_live(board)
        if isinstance(report, (Hooked, Note)):
            told = hook_line(report) if isinstance(report, Hooked) else f"warning: {report.text}"
            if live is None:
                print(told, file=sys.stderr, flush=True)
            else:
                live.console.print(told, markup=False, highlight=False)

    from compose.client.terminal import unechoed

    with unechoed():
        try:
            yield listen
        finally:
            if live is not None:
                live.stop()


def open_live(board: Board) -> Live:
    from rich.console import Console
    from rich.live import Live

    class Table(Live):
        """At the end all rows are printed; before, as many as the screen has room for."""

        def get_renderable(self) -> RenderableType:
            size, over = self.console.size, not self.is_started
            return draw(board, None if over else size.height - 1, size.width - len("^C"))

    live = Table(
        console=Console(stderr=True),
        refresh_per_second=10,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    return live


MARKS = {"done": ("✔", "green"), "failed": ("✘", "red"), "skipped": ("-", "yellow")}
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def draw(board: Board, height: int | None = None, width: int | None = None) -> Table:
    """`height`: lines that there is room for; None: no limit. `width`: None: as wide as the screen.
    On the screen there is to be room for the ^C that a terminal echoes (a warm process can't keep
    it from that): wrapped, it would shift all that is drawn after it."""
    from rich.table import Table
    from rich.text import Text

    now = board.clock()
    table = Table.grid(padding=(0, 1), expand=True)
    table.width = width
    table.add_column(width=1)
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=40)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(justify="right", no_wrap=True, style="blue")
    every = list(board.rows.values())  # a copy: rich draws in a thread of its own
    rows, hidden = visible(every, height)
    if hidden:
        done = sum(row.state in MARKS for row in every)
        table.add_row("", Text(f"{done} of {len(every)} done", "dim"), "", "")
    for row in rows:
        mark, style = MARKS.get(row.state, (SPINNER[int(now * 10) % 10], "cyan"))
        if row.state == "waiting":
            mark, style = "·", "dim"
        words = {"working": row.doing, "done": row.done}.get(row.state, row.state)
        why = row.detail or row.cause
        end = row.ended or now
        table.add_row(
            Text(mark, style),
            Text(row.subject),
            Text.assemble((words, style), ("  " + why if why else "", "dim")),
            f"{end - row.began:.1f} s" if row.began else "",
        )
    return table


# What a person wants to see first where there isn't room for all.
URGENCY = {"failed": 0, "working": 1, "waiting": 2, "skipped": 3, "done": 4}


def visible(rows: list[Row], height: int | None) -> tuple[list[Row], int]:
    """The rows to show, in their order, and how many are hidden: one line tells of those."""
    if height is None or len(rows) <= height:
        return rows, 0
    urgent = sorted(range(len(rows)), key=lambda index: (URGENCY[rows[index].state], index))
    shown = sorted(urgent[: max(1, height - 1)])
    return [rows[index] for index in shown], len(rows) - len(shown)
