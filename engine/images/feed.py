"""An upload becomes a file for a thread: the thread waits for the event loop, and the loop for no
one. What is read ahead is one chunk, whatever the sender does."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from engine.errors import Failure

Result = TypeVar("Result")


class Feed:
    """A Source for a thread, over chunks that arrive at the event loop."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._position = 0
        self._ended = False
        self._waiting: concurrent.futures.Future[bytes] | None = None

    def read(self, size: int, /) -> bytes:
        while self._position == len(self._buffer):
            if self._ended:
                return b""
            self._waiting = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                self._buffer, self._position = self._waiting.result(), 0
            except concurrent.futures.CancelledError:
                raise Failure("the transfer was cancelled") from None
        taken = self._buffer[self._position : self._position + size]
        self._position += len(taken)
        return taken

    def abort(self) -> None:
        """The thread's present or next `read` fails."""
        self._ended = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return bytes(chunk)
        self._ended = True
        return b""


async def run_fed(
    threads: concurrent.futures.Executor, feed: Feed, job: Callable[[], Result]
) -> Result:
    """The result of `job`, which reads the feed in a thread. A cancelled caller waits for the
    thread to have cleaned up."""
    running = asyncio.get_running_loop().run_in_executor(threads, job)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        feed.abort()
        with contextlib.suppress(Exception):
            await running
        raise
