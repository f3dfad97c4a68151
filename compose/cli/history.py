"""`pycompose history`: what was applied, when, by whom, from which commit."""

import asyncio
import time
from typing import Annotated

import typer

from compose import history
from compose.cli.context import Context
from compose.cli.find import find_project
from compose.cli.plan import columns
from compose.cli.render import Format, check_format, json_array, table
from compose.client.human import ago, shorten
from compose.client.times import parse_time
from compose.revision import Revision, to_document


def register(app: typer.Typer) -> None:
    @app.command("history")
    def show(
        ctx: typer.Context,
        number: Annotated[
            int, typer.Argument(metavar="[REVISION]", help="Show all of this one.", min=0)
        ] = 0,
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only numbers.")] = False,
        format: Format = "table",
    ) -> int:
        check_format(format)
        context: Context = ctx.obj

        async def work() -> list[Revision]:
            name, _ = find_project(context)
            engine = await context.engine()
            if number:
                return [await history.revision(engine, name, number)]
            return (await history.revisions(engine, name))[::-1]

        found = asyncio.run(work())
        if quiet:
            print("".join(f"{revision.number}\n" for revision in found), end="")
        elif format == "json":
            print(json_array(_row(revision, whole=bool(number)) for revision in found))
        elif number:
            print(_whole(found[0]))
        elif not found:
            context.say("nothing was applied yet")
        else:
            print(_list([_cells(revision, time.time()) for revision in found], columns()))
        return 0


HEADERS = ("REVISION", "APPLIED", "BY", "COMMIT", "COMMAND", "CHANGES")
WIDE = 100  # columns that a line has to have for all of them


def _list(rows: list[tuple[str, ...]], width: int | None) -> str:
    """`width`: of the terminal, None: it is none. In a narrow one what changed stands below."""
    if width is None or width >= WIDE:
        return table(HEADERS, rows, firm=("APPLIED",))
    first, *lines = table(HEADERS[:-1], [row[:-1] for row in rows], firm=("APPLIED",)).splitlines()
    below = [f"{' ' * 11}{shorten(row[-1], width - 11)}" for row in rows]
    return "\n".join([first, *(line for pair in zip(lines, below, strict=True) for line in pair)])


def _cells(revision: Revision, now: float) -> tuple[str, ...]:
    applied = parse_time(revision.time) / 1e9
    return (
        str(revision.number),
        ago(applied, now),
        revision.who,
        _commit(revision),
        revision.command,
        shorten(f"paused: {revision.paused}" if revision.paused else revision.summary, 60),
    )


def _commit(revision: Revision) -> str:
    """`1a2b3c4-dirty Add a cache`: the mark stands where a narrow column still has it."""
    if revision.git is None:
        return "-"
    dirty = "-dirty" if revision.git.dirty else ""
    return f"{revision.git.commit[:7]}{dirty} {shorten(revision.git.subject, 30)}"


def _whole(revision: Revision) -> str:
    lines = [
        f"revision {revision.number}, applied {revision.time} by {revision.who}: "
        f"{revision.command}",
        f"commit   {_commit(revision)}",
        f"folder   {revision.working_dir}",
    ]
    if revision.paused:
        lines.append(f"paused   {revision.paused}")
    if revision.images:
        lines.append("images")
        lines += [
            f"  {name}   {image.digest or image.id[:19]}"
            for name, image in sorted(revision.images.items())
        ]
    lines.append("changes")
    lines += [f"  {change}" for change in revision.changes]
    return "\n".join(lines)


def _row(revision: Revision, *, whole: bool) -> dict[str, object]:
    """Without the resolved project, unless one revision was asked for."""
    document = {"number": revision.number, "time": revision.time, **to_document(revision)}
    return document if whole else {k: v for k, v in document.items() if k != "model"}
