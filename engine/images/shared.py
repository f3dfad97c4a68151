"""Work that several want at once is done once, and goes on for as long as one of them waits."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")
Report = TypeVar("Report")


class _Work(Generic[Result, Report]):
    def __init__(self) -> None:
        self.task: asyncio.Task[Result] | None = None
        self.listeners: list[Callable[[Report], None]] = []
        self.last: Report | None = None

    def tell(self, report: Report) -> None:
        self.last = report
        for listener in self.listeners:
            listener(report)


class Shared(Generic[Result, Report]):
    """Reports of the work go to all who wait; who comes late hears the last one first."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, _Work[Result, Report]] = {}

    async def run(
        self,
        key: Hashable,
        work: Callable[[Callable[[Report], None]], Coroutine[Any, Any, Result]],
        listener: Callable[[Report], None],
    ) -> Result:
        """The result of `work(tell)`, or of the work with this key that is under way."""
        joined = self._under_way.get(key)
        if joined is None:
            joined = self._under_way[key] = _Work()
            joined.task = asyncio.create_task(work(joined.tell))
        elif joined.last is not None:
            listener(joined.last)
        assert joined.task is not None
        joined.listeners.append(listener)
        try:
            return await asyncio.shield(joined.task)
        finally:
            joined.listeners.remove(listener)
            if not joined.listeners:
                if self._under_way.get(key) is joined:
                    del self._under_way[key]
                await _end(joined.task)


async def _end(task: asyncio.Task[Any]) -> None:
    """Returns when it has cleaned up. What it raised then is nobody's concern any more."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()
