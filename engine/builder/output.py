"""What stages that run at once tell, in the order of the file: the first one at once, the others
when those before them are through. One that has much to say before its turn waits."""

import asyncio
from collections.abc import Awaitable, Callable

from engine.builder.model import Told

Tell = Callable[[Told], Awaitable[None]]
LARGEST_BACKLOG = 1 << 20


class Output:
    def __init__(self, tell: Tell, stages: int) -> None:
        self._tell = tell
        self._turns = [asyncio.Event() for _ in range(stages)]
        if self._turns:
            self._turns[0].set()

    def of(self, place: int) -> "StageOutput":
        """`place`: among those that run, in their order."""
        following = self._turns[place + 1] if place + 1 < len(self._turns) else None
        return StageOutput(self._tell, self._turns[place], following)


class StageOutput:
    def __init__(self, tell: Tell, turn: asyncio.Event, following: asyncio.Event | None) -> None:
        self._tell = tell
        self._turn = turn
        self._following = following
        self._backlog: list[Told] = []
        self._size = 0

    async def tell(self, *told: Told) -> None:
        if not self._turn.is_set():
            self._backlog += told
            self._size += sum(len(one) if isinstance(one, str) else 100 for one in told)
            if self._size < LARGEST_BACKLOG:
                return
            await self._turn.wait()
            told = ()
        await self._flush()
        for one in told:
            await self._tell(one)

    async def close(self) -> None:
        """The stage is through: the next one's turn, once it was this one's."""
        await self._turn.wait()
        await self._flush()
        if self._following is not None:
            self._following.set()

    async def fail(self) -> None:
        """The stage has failed, and the build with it: what led to that is said at once."""
        await self._flush()

    async def _flush(self) -> None:
        waiting, self._backlog = self._backlog, []
        for one in waiting:
            await self._tell(one)
