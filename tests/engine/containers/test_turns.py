"""Work that comes all at once leaves the loop to others in between."""

import asyncio
import itertools

from engine.containers.turns import Turns


async def test_others_come_between_two_turns() -> None:
    turns = Turns()
    order: list[str] = []
    waiting = 20

    async def work() -> None:
        nonlocal waiting
        await turns.take()
        order.append("work")
        waiting -= 1

    async def other() -> None:
        while waiting:
            order.append("other")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(waiting):
            group.create_task(work())
        group.create_task(other())
    assert order.count("work") == 20
    assert ("work", "work") not in set(itertools.pairwise(order))


async def test_one_that_gives_up_waiting_keeps_nobody() -> None:
    turns = Turns()
    waiting = [asyncio.create_task(turns.take()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting[:2]:
        task.cancel()
    await asyncio.wait(waiting)
    assert not waiting[2].cancelled()
    await turns.take()
