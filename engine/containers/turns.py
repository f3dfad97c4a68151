"""Work that may be asked for hundreds of times at once takes turns with everything else."""

import asyncio


class Turns:
    """The part of a create or a start that is the event loop's own takes milliseconds, and all
    those that wait would have it in one pass of the loop: lists, exits and names would come after
    the last of them. By turns it is one a pass."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._is_taken = False  # in this pass

    async def take(self) -> None:
        async with self._lock:
            while self._is_taken:
                await asyncio.sleep(0)
            self._is_taken = True
            asyncio.get_running_loop().call_soon(self._pass_on)

    def _pass_on(self) -> None:
        self._is_taken = False
