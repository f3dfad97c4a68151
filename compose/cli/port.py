"""`pycompose port`: where a service's port is published."""

import asyncio
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, one_container
from compose.errors import UsageError


def register(app: typer.Typer) -> None:
    @app.command("port")
    def port(
        ctx: typer.Context,
        service: Annotated[str, typer.Argument(metavar="SERVICE", hidden=True)],
        private_port: Annotated[int, typer.Argument(metavar="PORT", hidden=True)],
        protocol: Annotated[
            str, typer.Option("--protocol", help="tcp or udp.", metavar="PROTOCOL")
        ] = "tcp",
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
    ) -> int:
        print(asyncio.run(_published(ctx.obj, service, private_port, protocol, index)))
        return 0


async def _published(
    context: Context, service: str, private: int, protocol: str, index: int
) -> str:
    name, project = find_project(context)
    check_services(project, [service])
    engine = await context.engine()
    container = await one_container(engine, name, service, index, oneoff=False)
    for published in container.ports:
        if published.public and (published.private, published.protocol) == (private, protocol):
            address = f"[{published.ip}]" if ":" in published.ip else published.ip
            return f"{address}:{published.public}"
    raise UsageError(
        f"port {private}/{protocol} of container {container.name} is not published\n"
        f'  hint: publish it in the file: ports: ["{private}"]'
    )
