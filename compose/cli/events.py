"""`pycompose events`: what happens to the project's containers, and what is planned and applied."""

import asyncio
import json
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project
from compose.cli.render import stamp
from compose.client.events import Event
from compose.client.moments import api_time
from compose.plan.names import PROJECT, SERVICE


def register(app: typer.Typer) -> None:
    @app.command("events")
    def events(
        ctx: typer.Context,
        services: Annotated[
            list[str] | None, typer.Argument(metavar="SERVICE", hidden=True)
        ] = None,
        as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
        since: Annotated[
            str, typer.Option("--since", help="Start at this time.", metavar="TIME")
        ] = "",
        until: Annotated[
            str, typer.Option("--until", help="Stop at this time.", metavar="TIME")
        ] = "",
    ) -> int:
        asyncio.run(_events(ctx.obj, services or [], as_json, since, until))
        return 0


async def _events(
    context: Context, services: list[str], as_json: bool, since: str, until: str
) -> None:
    name, project = find_project(context)
    check_services(project, services)
    since, until = api_time(since, "--since"), api_time(until, "--until")
    engine = await context.engine()
    filters = {"type": ["container", "project"], "label": [f"{PROJECT}={name}"]}
    async with engine.events.subscribe(filters=filters, since=since, until=until) as events:
        async for event in events:
            if not services or event.attributes.get(SERVICE) in services:
                print(_json(event) if as_json else _text(event), flush=True)


def _attributes(event: Event) -> dict[str, str]:
    return {
        key: value
        for key, value in sorted(event.attributes.items())
        if not key.startswith(("com.docker.compose.", "io.pycompose."))
    }


def _action(event: Event) -> str:
    return f"{event.action}: {event.detail}" if event.detail else event.action


def _text(event: Event) -> str:
    attributes = ", ".join(f"{key}={value}" for key, value in _attributes(event).items())
    return (
        f"{stamp(event.time / 1e9)} {event.kind} {_action(event)} {event.actor_id} ({attributes})"
    )


def _json(event: Event) -> str:
    document = {
        "time": stamp(event.time / 1e9).replace(" ", "T") + "Z",
        "type": event.kind,
        "service": event.attributes.get(SERVICE, ""),
        "id": event.actor_id,
        "action": _action(event),
        "attributes": _attributes(event),
    }
    return json.dumps(document, separators=(",", ":"))
