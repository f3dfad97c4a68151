"""/events: what happens on the engine, from the moment of subscribing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from compose.client import fields
from compose.client.containers import Filters, encode_filters
from compose.client.transport import Transport
from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """`detail` is what follows the action's colon: `health_status: healthy`, `exec_start: sh`."""

    kind: str  # container, network, volume, image, daemon
    action: str
    detail: str
    actor_id: str
    attributes: Mapping[str, str]
    time: int  # nanoseconds since 1970

    @property
    def exit_code(self) -> int:
        code = self.attributes.get("exitCode", "")
        return int(code) if code.isdigit() else 0


class Events:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @asynccontextmanager
    async def subscribe(
        self, *, filters: Filters | None = None, since: str = "", until: str = ""
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Inside of the block nothing is missed: the engine has answered, so it listens for us."""
        query = {
            "filters": encode_filters(filters),
            "since": since or None,
            "until": until or None,
        }
        async with self._transport.stream("GET", "/events", query=query) as answer:
            yield _events(answer.objects())


async def _events(messages: AsyncIterator[object]) -> AsyncIterator[Event]:
    async for message in messages:
        yield parse_event(fields.mapping(message, "an event"))


def parse_event(message: Mapping[str, object]) -> Event:
    actor = fields.child(message, "Actor")
    action, _, detail = fields.text(message, "Action").partition(":")
    return Event(
        kind=fields.text(message, "Type"),
        action=action,
        detail=detail.strip(),
        actor_id=fields.text(actor, "ID", ""),
        attributes=fields.text_map(actor, "Attributes"),
        time=fields.number(message, "timeNano", 0),
    )
