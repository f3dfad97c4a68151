"""The stream of what happens, and which of it a client asked for."""

from __future__ import annotations

from aiohttp import web

from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.streams import JSON, Stream
from engine.errors import InvalidRequest
from engine.events import Event
from engine.filters import Filters, has_label

EVENT_FILTERS = frozenset(
    {
        *("config", "container", "daemon", "event", "image", "label", "network", "node"),
        *("plugin", "scope", "secret", "service", "type", "volume"),
    }
)


async def events(request: Request, engine: Engine) -> web.StreamResponse:
    filters = request.query.filters()
    filters.check(EVENT_FILTERS)
    since, until = request.query.seconds("since"), request.query.seconds("until")
    if request.query.text("since") == "0":
        since = 1  # 1970 is a moment too: all that is known is asked for
    if until and until < since:
        raise InvalidRequest(
            f"`since` time ({request.query.text('since')}) cannot be after `until` time "
            f"({request.query.text('until')})"
        )
    subscription = engine.events.subscribe(
        since=since, until=until, wanted=lambda event: is_wanted(event, filters)
    )
    stream = Stream(request, JSON)
    with subscription, request.until_gone(endless=True):
        async with stream:
            async for event in subscription:
                await stream.message(event_json(event))
    return stream.response


def is_wanted(event: Event, filters: Filters) -> bool:
    """Pure. `container=x` and its like choose by id, id prefix or name, within that type."""
    if not filters:
        return True
    attributes = event.attributes

    def is_the(kind: str) -> bool:
        return filters.any(
            kind,
            lambda value: (
                event.type == kind
                and (event.id.startswith(value) or attributes.get("name", "").startswith(value))
            ),
        )

    return (
        filters.any("type", lambda value: value == event.type)
        and filters.any("event", lambda value: _is_action(event.action, value))
        and filters.any("scope", lambda value: value == "local")
        and all(has_label(attributes, label) for label in filters.get("label"))
        and filters.any("image", lambda value: _is_image(event, value))
        and all(
            is_the(kind)
            for kind in ("container", "network", "volume", "daemon", "plugin", "service", "node",
                         "secret", "config")
        )
    )  # fmt: skip


def _is_action(action: str, wanted: str) -> bool:
    """`exec_create` stands for `exec_create: sh -c ...` too."""
    return action == wanted or action.partition(":")[0] == wanted


def _is_image(event: Event, wanted: str) -> bool:
    name = event.attributes.get("image", "") if event.type == "container" else ""
    candidates = (name,) if name else (event.id, event.attributes.get("name", ""))
    return event.type in ("container", "image") and any(
        candidate == wanted or candidate.rpartition(":")[0] == wanted for candidate in candidates
    )


def event_json(event: Event) -> dict[str, object]:
    document: dict[str, object] = {}
    if event.type in ("container", "image"):
        document["status"] = event.action
        document["id"] = event.id
    if event.type == "container":
        document["from"] = event.attributes.get("image", "")
    return document | {
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": event.attributes},
        "scope": "local",
        "time": event.time // 1_000_000_000,
        "timeNano": event.time,
    }
