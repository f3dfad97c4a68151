"""Work that tells what happens, as the steps that a client reads, and its result after them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from engine.images.model import Progress

Tell = Callable[[Progress], None]
Result = TypeVar("Result")


class Reports(Generic[Result]):
    """`result` is there once all `steps` were read."""

    result: Result

    def __init__(self, work: Callable[[Tell], Coroutine[Any, Any, Result]]) -> None:
        self._work = work

    async def steps(self) -> AsyncGenerator[Progress, None]:
        """Raises what the work raises. Who reads no further ends the work."""
        told: asyncio.Queue[Progress | None] = asyncio.Queue()
        working = asyncio.create_task(self._work(told.put_nowait))
        working.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (step := await told.get()) is not None:
                yield step
            self.result = await working
        finally:
            working.cancel()
            await asyncio.wait((working,))
