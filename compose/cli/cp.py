"""`pycompose cp`: files from a service's container to this machine, and the other way."""

import asyncio
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, number, project_containers
from compose.client.copying import Place, copy_in, copy_out, parse_place
from compose.errors import UsageError


def register(app: typer.Typer) -> None:
    @app.command("cp")
    def cp(
        ctx: typer.Context,
        source: Annotated[str, typer.Argument(metavar="[SERVICE:]PATH", hidden=True)],
        target: Annotated[str, typer.Argument(metavar="[SERVICE:]PATH", hidden=True)],
        archive: Annotated[
            bool, typer.Option("-a", "--archive", help="Keep the owners' ids.")
        ] = False,
        follow: Annotated[
            bool, typer.Option("-L", "--follow-link", help="What a link leads to.")
        ] = False,
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
        all: Annotated[bool, typer.Option("--all", help="Those of run, too.")] = False,
    ) -> int:
        one, other = parse_place(source), parse_place(target)
        if bool(one.owner) == bool(other.owner):
            raise UsageError(
                "one of the two must be in a service, and one here\n"
                "  hint: pycompose cp web:/etc/hosts . or pycompose cp page.html web:/srv/"
            )
        asyncio.run(_copy(ctx.obj, one, other, archive, follow, index, all))
        return 0


async def _copy(
    context: Context,
    source: Place,
    target: Place,
    archive: bool,
    follow: bool,
    index: int,
    one_offs: bool,
) -> None:
    service = source.owner or target.owner
    name, project = find_project(context)
    check_services(project, [service])
    engine = await context.engine()
    rows = await project_containers(engine, name, [service], oneoff=one_offs)
    rows = [row for row in rows if index in (0, number(row))]
    if not rows:
        which = f"container {index} of service" if index else "container of service"
        raise UsageError(f"there is no {which} {service!r}\n  hint: make it with: pycompose up -d")
    if source.owner:
        engine.would(f"copy {source.path} of {rows[0].name} to {target.path}")
        await copy_out(
            engine.containers, rows[0].id, source, target.path, context.directory,
            archive=archive, follow=follow,
        )  # fmt: skip
    else:
        engine.would(f"copy {source.path} to {', '.join(row.name for row in rows)}: {target.path}")
        await copy_in(
            engine.containers, {row.id: row.name for row in rows}, source, target.path,
            context.directory, archive=archive, follow=follow,
        )  # fmt: skip
