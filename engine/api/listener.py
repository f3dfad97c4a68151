"""Takes connections: all that wait, in one turn of the event loop. uvloop's own server takes one a
turn: where hundreds come together a turn is milliseconds, and the last would wait for all of them.
"""

import asyncio
import logging
import socket
from collections.abc import Callable

from engine.kernel.libc import told

log = logging.getLogger(__name__)

MOST = 256  # that are taken in one turn
PAUSE = 1.0  # seconds in which none is taken where the system has no room for one


class Listener:
    """On `endpoint`, which is bound and becomes this one's own."""

    def __init__(
        self, endpoint: socket.socket, make: Callable[[], asyncio.Protocol], *, backlog: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._endpoint = endpoint
        self._make = make
        self._taken: set[asyncio.Task[object]] = set()  # and not connected yet
        self._pause: asyncio.TimerHandle | None = None
        endpoint.setblocking(False)
        endpoint.listen(backlog)
        self._loop.add_reader(endpoint, self._take)

    def close(self) -> None:
        """Those that were taken stay."""
        if self._pause is None:
            self._loop.remove_reader(self._endpoint)
        else:
            self._pause.cancel()
        self._endpoint.close()

    def _take(self) -> None:
        for _ in range(MOST):
            try:
                connection, _ = self._endpoint.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return  # what is left wakes us again
            except OSError as error:
                log.error("cannot take a connection: %s", told(error))
                self._loop.remove_reader(self._endpoint)
                self._pause = self._loop.call_later(PAUSE, self._go_on)
                return
            task = self._loop.create_task(self._connect(connection))
            self._taken.add(task)
            task.add_done_callback(self._taken.discard)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._endpoint, self._take)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._make, connection)
        except OSError as error:  # it is gone again
            log.debug("a client left at once: %s", told(error))
            connection.close()
