import asyncio
import time

from engine.events import BACKLOG, LARGEST_QUEUE, EventLog


async def test_a_listener_gets_what_comes_after_it() -> None:
    events = EventLog()
    events.publish("container", "create", "1")
    with events.subscribe() as told:
        events.publish("container", "start", "1", {"name": "web"})
    (only,) = [event async for event in told]
    assert (only.type, only.action, only.id, dict(only.attributes)) == (
        "container", "start", "1", {"name": "web"},
    )  # fmt: skip


async def test_backlog_is_bounded_and_told_from_since_on() -> None:
    events = EventLog()
    for number in range(BACKLOG + 10):
        events.publish("container", "create", str(number))
    assert len(events.backlog()) == BACKLOG
    since = events.backlog()[-3].time
    told = events.subscribe(since=since, until=time.time_ns())
    assert [event.id async for event in told] == ["263", "264", "265"]
    assert events.subscriptions == set()


async def test_until_in_the_future_ends_then() -> None:
    events = EventLog()
    told = events.subscribe(until=time.time_ns() + 20_000_000)
    events.publish("container", "create", "1")
    assert [event.id async for event in told] == ["1"]


async def test_only_the_wanted_are_told() -> None:
    events = EventLog()
    with events.subscribe(wanted=lambda event: event.type == "volume") as told:
        events.publish("container", "create", "1")
        events.publish("volume", "create", "2")
    assert [event.id async for event in told] == ["2"]


async def test_a_listener_that_does_not_read_is_cut_off() -> None:
    events = EventLog()
    told = events.subscribe()
    for number in range(LARGEST_QUEUE + 5):
        events.publish("container", "create", str(number))
    assert events.subscriptions == set()
    assert len([event async for event in told]) == LARGEST_QUEUE


async def test_the_daemon_s_end_ends_every_listener() -> None:
    events = EventLog()
    told = events.subscribe()
    waiting = asyncio.ensure_future(anext(told, None))
    await asyncio.sleep(0)
    events.close()
    assert await waiting is None
