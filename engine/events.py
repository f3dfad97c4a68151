"""What happened, as the Engine API tells it: a backlog of 256 and live subscribers."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType

BACKLOG = 256
# A client that doesn't read is cut off here, so that it can't grow the daemon.
LARGEST_QUEUE = 4096


@dataclass(frozen=True, slots=True)
class Event:
    type: str  # "container", "image", "network", "volume", "daemon", "builder", "project"
    action: str  # "start", "health_status: healthy", "exec_create: ls"
    id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time: int = 0  # nanoseconds since the epoch


def every(event: Event) -> bool:
    return True


class Subscription:
    """Events for one listener, from the moment it was made: `async for` inside a `with`."""

    def __init__(
        self, events: "EventLog", past: list[Event], until: int, wanted: Callable[[Event], bool]
    ) -> None:
        self._events = events
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._until = until
        self._wanted = wanted
        for event in past:
            self.offer(event)

    def offer(self, event: Event) -> None:
        if self._queue.qsize() >= LARGEST_QUEUE:
            self.close()
        elif self._wanted(event) and (not self._until or event.time <= self._until):
            self._queue.put_nowait(event)

    def close(self) -> None:
        """What was offered before is still delivered, then the iteration ends."""
        if self in self._events.subscriptions:
            self._events.subscriptions.discard(self)
            self._queue.put_nowait(None)

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        following = None
        if not self._queue.empty():
            following = self._queue.get_nowait()
        elif self in self._events.subscriptions:
            remaining = max(0.0, (self._until - time.time_ns()) / 1e9) if self._until else None
            try:
                async with asyncio.timeout(remaining):
                    following = await self._queue.get()
            except TimeoutError:
                self.close()
        if following is None:
            raise StopAsyncIteration
        return following


class EventLog:
    """Owned by the event loop: publish and subscribe from its thread only."""

    def __init__(self) -> None:
        self._backlog: deque[Event] = deque(maxlen=BACKLOG)
        self.subscriptions: set[Subscription] = set()

    def publish(
        self, type: str, action: str, id: str, attributes: Mapping[str, str] | None = None
    ) -> Event:
        event = Event(type, action, id, dict(attributes or {}), time.time_ns())
        self._backlog.append(event)
        for subscription in tuple(self.subscriptions):
            subscription.offer(event)
        return event

    def backlog(self) -> tuple[Event, ...]:
        return tuple(self._backlog)

    def subscribe(
        self, *, since: int = 0, until: int = 0, wanted: Callable[[Event], bool] = every
    ) -> Subscription:
        """Events from now on, after those of the backlog from `since` on if that is given.

        `until` ends the iteration, at once if it has passed; both are nanoseconds since the
        epoch, 0 = none.
        """
        past = [event for event in self._backlog if event.time >= since] if since else []
        subscription = Subscription(self, past, until, wanted)
        self.subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        """End every subscription: the daemon stops."""
        for subscription in tuple(self.subscriptions):
            subscription.close()
