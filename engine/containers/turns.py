"""Work that may be asked for hundreds of times at once takes turns with everything else."""

import asyncio


class Turns:
    """The part of a create or a start that is the event loop's own takes milliseconds, and all
    those that wait would have it in one pass of the loop: lists, exits and names would come after
    the last of them. By turns it is one a pass."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        async with self._lock:
            await asyncio.sleep(0)
