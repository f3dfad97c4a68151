"""`pycompose diff`: between revisions, commits, what runs and what the files declare."""

import asyncio
import json
from typing import Annotated

import typer

from compose import converge, history
from compose.cli.context import Context
from compose.cli.find import find_project
from compose.cli.render import check_format
from compose.client.engine import Engine
from compose.model.document import Document
from compose.observe import observe
from compose.plan.diff import ABSENT, Difference, in_words
from compose.plan.images import image_of
from compose.revision import compare, project_of, snapshot, snapshot_of_running

FILES, RUNNING = "files", "running"
HELP = "A revision's number, a git reference, running or files."


def register(app: typer.Typer) -> None:
    @app.command("diff")
    def diff(
        ctx: typer.Context,
        old: Annotated[str, typer.Argument(metavar="[A]", help=HELP)] = RUNNING,
        new: Annotated[str, typer.Argument(metavar="[B]", help=HELP)] = FILES,
        values: Annotated[
            bool,
            typer.Option("--show-values", help="Also what may be a secret."),
        ] = False,
        format: Annotated[
            str, typer.Option("--format", help="text or json.", metavar="FORMAT")
        ] = "text",
    ) -> int:
        """What B has otherwise than A: running and files where nothing is said."""
        check_format(format, ("text", "json"))
        context: Context = ctx.obj

        async def work() -> list[Difference]:
            name, _ = find_project(context)
            engine = await context.engine()
            return compare(
                await _snapshot(context, engine, name, old),
                await _snapshot(context, engine, name, new),
                await engine.id(),
            )

        found = asyncio.run(work())
        if format == "json":
            print(json.dumps([_document(each, values=values) for each in found], indent=2))
        elif found:
            print("\n".join(in_words(each, values=values) for each in found))
        else:
            context.say(f"{old} and {new} are the same")
        return 0


async def _snapshot(context: Context, engine: Engine, name: str, what: str) -> Document:
    if what == RUNNING:
        number = 0 if engine.is_ours else await converge.as_last_applied(engine, name)
        if not number:
            return snapshot_of_running(await observe(engine, name), name)
        what = str(number)
    if what.isdigit():
        revision = await history.revision(engine, name, int(what))
        engine_id = await engine.id()
        project = await asyncio.to_thread(
            project_of, revision, name, context.environment, engine_id
        )
        ids = {reference: image.id for reference, image in revision.images.items()}
        return snapshot(project, ids, revision.scale)
    source = None if what == FILES else context.commit(what)
    project = context.load(require_files=False, source=source)
    known = await history.images_of(engine, project)
    if what != FILES:
        # What a build of that commit would give isn't known.
        built = {image_of(project, s) for s in project.services.values() if s.build}
        known = {reference: image for reference, image in known.items() if reference not in built}
    return snapshot(project, {reference: image.id for reference, image in known.items()})


def _document(difference: Difference, *, values: bool) -> dict[str, object]:
    words = in_words(difference, values=values)
    plain = values or " -> " in words
    return {
        "place": ".".join(map(str, difference.place)),
        "change": words,
        "old": None if difference.old is ABSENT or not plain else difference.old,
        "new": None if difference.new is ABSENT or not plain else difference.new,
    }
