"""`pyengine events`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.moments import api_time
from compose.client.template import parse_template, to_json
from engine.cli.options import Filter, filters
from engine.cli.session import on_engine


def events(
    ctx: typer.Context,
    filter: Filter = None,
    format: Annotated[
        str,
        typer.Option("--format", help="json, or a template as '{{.Action}}'.", metavar="FORMAT"),
    ] = "",
    since: Annotated[
        str, typer.Option("--since", help="Also from then: 10m, 2026-01-31T10:00:00 or seconds.")
    ] = "",
    until: Annotated[str, typer.Option("--until", help="Only until then.")] = "",
) -> None:
    template = parse_template(format) if format not in ("", "json") else None
    query = {
        "filters": filters(filter),
        "since": api_time(since, "--since") or None,
        "until": api_time(until, "--until") or None,
    }

    async def work(engine: Engine) -> None:
        async with engine.transport.stream("GET", "/events", query=query) as answer:
            async for item in answer.objects():
                event = fields.mapping(item, "an event")
                if template:
                    text = template.render(event)
                else:
                    text = to_json(event) if format else event_line(event)
                print(text, flush=True)

    on_engine(ctx, work)


def event_line(event: Mapping[str, object]) -> str:
    """`2026-01-31T10:20:30.000000000+01:00 container start 0123… (image=…, name=…)`"""
    nanoseconds = fields.number(event, "timeNano", 0)
    seconds, fraction = divmod(nanoseconds, 10**9)
    moment = time.localtime(seconds)
    zone = time.strftime("%z", moment)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{fraction:09d}{zone}"
    actor = fields.child(event, "Actor")
    attributes = fields.text_map(actor, "Attributes")
    told = ", ".join(f"{key}={value}" for key, value in sorted(attributes.items()))
    words = (stamp, fields.text(event, "Type", ""), fields.text(event, "Action", ""),
             fields.text(actor, "ID", ""))  # fmt: skip
    return " ".join(words) + (f" ({told})" if told else "")
