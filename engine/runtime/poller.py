"""The shim's event loop: epoll and callbacks by descriptor, deadlines, nothing else."""

import select
import time
from collections.abc import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
GONE = select.EPOLLHUP | select.EPOLLERR


class Poller:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._deadlines: dict[object, tuple[float, Callable[[], None]]] = {}

    def watch(self, descriptor: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever one of `events` (or GONE, always) is there."""
        known = self._watched.get(descriptor)
        if known is None:
            self._epoll.register(descriptor, events)
        elif known[0] != events:
            self._epoll.modify(descriptor, events)
        self._watched[descriptor] = (events, callback)

    def forget(self, descriptor: int) -> None:
        """Before it is closed, or it would stay watched through a copy elsewhere."""
        if self._watched.pop(descriptor, None) is not None:
            self._epoll.unregister(descriptor)

    def at(self, key: object, delay: float, callback: Callable[[], None]) -> None:
        """Call once after `delay` seconds, unless `cancel(key)` comes first."""
        self._deadlines[key] = (time.monotonic() + delay, callback)

    def cancel(self, key: object) -> None:
        self._deadlines.pop(key, None)

    def close(self) -> None:
        self._epoll.close()

    def turn(self) -> None:
        """Wait for something to happen and handle it."""
        wait = -1.0
        if self._deadlines:
            wait = max(0.0, min(at for at, _ in self._deadlines.values()) - time.monotonic())
        for descriptor, events in self._epoll.poll(wait):
            # An earlier callback of this turn may have closed it.
            known = self._watched.get(descriptor)
            if known is not None:
                known[1](events)
        now = time.monotonic()
        for key, (at, callback) in list(self._deadlines.items()):
            if at <= now:
                del self._deadlines[key]
                callback()
