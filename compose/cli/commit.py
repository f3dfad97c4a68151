"""`pycompose commit`: an image of what a service's container has become."""

import asyncio
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, one_container
from compose.client.images import split_reference


def register(app: typer.Typer) -> None:
    @app.command("commit")
    def commit(
        ctx: typer.Context,
        service: Annotated[str, typer.Argument(metavar="SERVICE", hidden=True)],
        reference: Annotated[str, typer.Argument(metavar="NAME[:TAG]", hidden=True)] = "",
        author: Annotated[
            str, typer.Option("-a", "--author", help="Who made it.", metavar="NAME")
        ] = "",
        change: Annotated[
            list[str] | None,
            typer.Option("-c", "--change", help="An instruction, as CMD.", metavar="INSTRUCTION"),
        ] = None,
        message: Annotated[
            str, typer.Option("-m", "--message", help="What changed.", metavar="TEXT")
        ] = "",
        pause: Annotated[
            bool, typer.Option("-p/ ", "--pause/--no-pause", help="Stop its clock meanwhile.")
        ] = True,
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
    ) -> int:
        context: Context = ctx.obj

        async def work() -> str:
            name, project = find_project(context)
            check_services(project, [service])
            engine = await context.engine()
            container = await one_container(engine, name, service, index)
            engine.would(f"make an image of {container.name}: {reference or 'without a name'}")
            repository, tag = split_reference(reference) if reference else ("", "")
            return await engine.containers.commit(
                container.id, repository, tag,
                author=author, comment=message, changes=change or (), pause=pause,
            )  # fmt: skip

        print(asyncio.run(work()))
        return 0
