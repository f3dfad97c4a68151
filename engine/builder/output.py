"""What stages that run at once tell, in the order of the file: the first one at once, the others
when those before them are through. One that has much to say before its turn waits."""

import asyncio
from collections.abc import Awaitable, Callable

from engine.builder.model import Told

Tell = Callable[..., Awaitable[None]]  # gets any number of Told; those of a call travel together
LARGEST_BACKLOG = 1 << 20


class Output:
    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._last = asyncio.Event()
        self._last.set()

    def next(self) -> "StageOutput":
        """Of one more stage, whose turn comes after those before it."""
        turn, self._last = self._last, asyncio.Event()
        return StageOutput(self._tell, turn, self._last)

    def between(self) -> "StageOutput":
        """Of a stage that one under way waits for: it has no turn to wait for."""
        turn = asyncio.Event()
        turn.set()
        return StageOutput(self._tell, turn, asyncio.Event())


class StageOutput:
    def __init__(self, tell: Tell, turn: asyncio.Event, following: asyncio.Event) -> None:
        self._tell = tell
        self._turn = turn
        self._following = following
        self._backlog: list[Told] = []
        self._size = 0

    async def tell(self, *told: Told) -> None:
        self._backlog += told
        if not self._turn.is_set():
            self._size += sum(len(one) if isinstance(one, str) else 100 for one in told)
            if self._size < LARGEST_BACKLOG:
                return
            await self._turn.wait()
        await self._flush()

    async def close(self) -> None:
        """The stage is through: the next one's turn, once it was this one's."""
        await self._turn.wait()
        await self._flush()
        self._following.set()

    async def fail(self) -> None:
        """The stage has failed, and the build with it: what led to that is said at once."""
        await self._flush()

    async def _flush(self) -> None:
        waiting, self._backlog = self._backlog, []
        if waiting:
            await self._tell(*waiting)
