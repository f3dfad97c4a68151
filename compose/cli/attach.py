"""`pycompose attach`: this terminal becomes that of a service's running container."""

import asyncio
import contextlib
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, one_container
from compose.client.errors import Conflict
from compose.client.terminal import converse, forwarding

# Seconds from the end of a container's output to its exit code; later: it was only left.
_UNTIL_RECORDED = 0.5


def register(app: typer.Typer) -> None:
    @app.command("attach")
    def attach(
        ctx: typer.Context,
        service: Annotated[str, typer.Argument(metavar="SERVICE", hidden=True)],
        detach_keys: Annotated[
            str, typer.Option("--detach-keys", help="Keys that leave it.", metavar="KEYS")
        ] = "",
        no_stdin: Annotated[
            bool, typer.Option("--no-stdin", help="Don't pass standard input on.")
        ] = False,
        sig_proxy: Annotated[
            bool, typer.Option("--sig-proxy/--no-sig-proxy", help="Pass signals on.")
        ] = True,
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
    ) -> int:
        return asyncio.run(
            _attach(ctx.obj, service, detach_keys, not no_stdin, sig_proxy, index)
        )  # fmt: skip


async def _attach(
    context: Context, service: str, detach_keys: str, stdin: bool, sig_proxy: bool, index: int
) -> int:
    """The container's exit code, or 0 where it was left running."""
    name, project = find_project(context)
    check_services(project, [service])
    engine = await context.engine()
    chosen = await one_container(engine, name, service, index)
    engine.would(f"attach to {chosen.name}")
    container = chosen.id
    details = await engine.containers.inspect(container)

    async def resize(height: int, width: int) -> None:
        with contextlib.suppress(Conflict):  # it is about to end
            await engine.containers.resize(container, height=height, width=width)

    stdin = stdin and details.open_stdin
    async with engine.containers.waiting(container, condition="not-running") as exit_code:
        duplex = await engine.containers.attach(container, stdin=stdin, detach_keys=detach_keys)
        try:
            with (
                forwarding(engine.containers, container) if sig_proxy else contextlib.nullcontext()
            ):
                await converse(duplex, is_tty=details.tty, stdin=stdin, resize=resize)
        finally:
            await duplex.close()
        try:
            return await asyncio.wait_for(exit_code, _UNTIL_RECORDED)
        except TimeoutError:
            return 0
