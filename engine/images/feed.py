"""An upload becomes a file for a thread: the thread waits for the event loop, and the loop for no
one. What is read ahead is one chunk, whatever the sender does."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol, TypeVar

from engine.errors import Failure

Result = TypeVar("Result")
_TRIP = 1 << 18


class Feed:
    """A Source for a thread, over chunks that arrive at the event loop."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._position = 0
        self._ended = False
        # Both are the loop's: what the thread knows of its own request may come too late.
        self._aborted = False
        self._awaiting: asyncio.Task[object] | None = None

    def read(self, size: int, /) -> bytes:
        while self._position == len(self._buffer):
            if self._ended:
                return b""
            request = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
            try:
                self._buffer, self._position = request.result(), 0
            except concurrent.futures.CancelledError:
                raise Failure("the transfer was cancelled") from None
        taken = self._buffer[self._position : self._position + size]
        self._position += len(taken)
        return taken

    def abort(self) -> None:
        """The thread's present or next `read` fails. Called in the loop."""
        self._aborted = True
        if self._awaiting is not None:
            self._awaiting.cancel()

    async def _next(self) -> bytes:
        if self._aborted:
            raise Failure("the transfer was cancelled")
        self._awaiting = asyncio.current_task()
        try:
            async for chunk in self._chunks:
                if chunk:
                    return bytes(chunk)
        finally:
            self._awaiting = None
        self._ended = True
        return b""


class Abortable(Protocol):
    def abort(self) -> None: ...


async def finish(running: asyncio.Future[Result]) -> Result:
    """The result of what a thread does. A cancelled caller waits for its end: no thread is left
    behind that touches what somebody else believes to be his."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        raise


async def run_fed(
    threads: concurrent.futures.Executor, feed: Abortable, job: Callable[[], Result]
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


class Outlet:
    """Chunks from a thread for the event loop; the thread waits while the reader is slow."""

    def __init__(self, threads: concurrent.futures.Executor) -> None:
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._room = threading.Semaphore(4)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._closed = False
        self._gathered: list[bytes] = []
        self._size = 0

    def put(self, chunk: bytes) -> None:
        """Small pieces travel together: each trip to the loop costs as much as 50 KB."""
        self._gathered.append(chunk)
        self._size += len(chunk)
        if self._size >= _TRIP:
            self._flush()

    def _flush(self) -> None:
        chunk, self._gathered, self._size = b"".join(self._gathered), [], 0
        if chunk:
            self._room.acquire()
            if self._closed:
                raise Failure("the transfer was cancelled")
            self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)

    async def run(
        self, job: Callable[[Callable[[bytes], None]], object]
    ) -> AsyncGenerator[bytes, None]:
        """What `job(put)` puts, as it comes. Raises what the job raises."""

        def work() -> None:
            job(self.put)
            self._flush()

        running = self._loop.run_in_executor(self._threads, work)
        # Behind all chunks: those were put on the loop's list before.
        running.add_done_callback(lambda _: self._queue.put_nowait(b""))
        try:
            while chunk := await self._queue.get():
                self._room.release()
                yield chunk
            await running
        finally:
            self._closed = True
            self._room.release()
            with contextlib.suppress(Exception):  # who left doesn't want to hear it
                await running
