"""Moments to kill a daemon at: after so many changes that it makes to its files."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.kernel import inotify
from tests.host import Daemon

_CHANGES = inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE | inotify.IN_MODIFY


class Changes:
    """Counts what happens to the files below some folders, and to those that come there."""

    def __init__(self, *roots: Path) -> None:
        self._roots = roots
        self._inotify = inotify.inotify_init()
        self._watch_all()

    def close(self) -> None:
        os.close(self._inotify)

    def await_number(self, number: int, until: Callable[[], bool]) -> bool:
        """Whether there were so many before `until` said that no more will come."""
        seen = 0
        while seen < number:
            if not select.select([self._inotify], [], [], 0.02)[0]:
                if until():
                    return False
                continue
            found = inotify.read_events(self._inotify)
            seen += len(found)
            if any(mask & inotify.IN_CREATE for _, mask in found):
                self._watch_all()
        return True

    def _watch_all(self) -> None:
        for root in self._roots:
            for folder, _, _ in os.walk(root):
                with contextlib.suppress(OSError):  # gone again
                    inotify.add_watch(self._inotify, folder, _CHANGES)


@contextlib.contextmanager
def killed_at(daemon: Daemon, number: int) -> Iterator[None]:
    """While the body works with the daemon, it is killed after that many changes, or at the end
    of the body at the latest."""
    changes = Changes(daemon.data_root, daemon.exec_root)
    over = threading.Event()

    def kill() -> None:
        if changes.await_number(number, over.is_set):
            daemon.process.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()
        changes.close()
        daemon.kill()
