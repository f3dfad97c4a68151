"""File events of the machine, as batches of paths: the only place that knows watchdog."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from os.path import lexists
from pathlib import Path

from watchdog.events import (
    EVENT_TYPE_CREATED,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import ObservedWatch

from compose.model.project import Project
from compose.watch.rules import watched_paths

# Seconds without a change that end a batch. An editor's save is several events within
# milliseconds, and whoever saved it looks at the result; a checkout of another branch is thousands
# with pauses among them, longer ones on a busy machine, and is to be one.
QUIET, QUIET_IN_STORM = 0.012, 0.2
STORM = 20  # paths
PACE = 4000  # paths: so many are worth a pause of a second
# It is slept through in so many naps: where the machine is busy, or has stopped this process, a
# pause is over when it has its turn again, before watchdog's threads told what happened meanwhile.
NAPS = 4
# A checkout by git is over when its lock goes, however long it pauses; one that is older than so
# many seconds is a left-over.
PATIENCE = 60.0
# The kernel is to tell of these only: its queue is finite, opening and reading change nothing, and
# what changes in a folder comes with its own event.
CHANGES: list[type[FileSystemEvent]] = [
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
]


def quiet(count: int) -> float:
    """Seconds without a change after which `count` paths are a batch."""
    return QUIET if count < STORM else max(QUIET_IN_STORM, count / PACE)


class Changes:
    """Paths that changed, from watchdog's threads into the event loop."""

    def __init__(self, lock: Path | None) -> None:
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._observer = Observer()
        self._watches: dict[str, tuple[bool, ObservedWatch]] = {}
        self._handler = _Handler(self)

    def watch(self, folders: Mapping[str, bool]) -> None:
        """Watch just these (folder -> subfolders too). A folder that isn't there is left out."""
        for folder, (recursive, watch) in list(self._watches.items()):
            if folders.get(folder) != recursive:
                self._observer.unschedule(watch)
                del self._watches[folder]
        for folder, recursive in folders.items():
            if folder not in self._watches and os.path.isdir(folder):
                watch = self._observer.schedule(
                    self._handler, folder, recursive=recursive, event_filter=CHANGES
                )
                self._watches[folder] = (recursive, watch)

    def put(self, path: str, *, is_new: bool) -> None:
        """Called in watchdog's thread."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (path, is_new))

    async def batch(self) -> set[str]:
        """The next changes that belong together. What comes and goes meanwhile, as the files that
        editors write beside the one they save, is none."""
        while True:
            path, is_new = await self._queue.get()
            paths = {path: is_new}  # as the first event of each says
            naps = 0
            while naps < NAPS:
                await asyncio.sleep(quiet(len(paths)) / NAPS)
                naps = 0 if self._is_held() else naps + 1
                while not self._queue.empty():
                    paths.setdefault(*self._queue.get_nowait())
                    naps = 0
            changed = {path for path, is_new in paths.items() if not is_new or lexists(path)}
            if changed:
                return changed

    def _is_held(self) -> bool:
        """Whether git is at work in the tree. A lock that it left behind, killed, is in the way of
        nobody but git."""
        try:
            return self._lock is not None and time.time() - self._lock.stat().st_mtime < PATIENCE
        except OSError:
            return False

    def start(self) -> None:
        self._observer.start()

    def stop(self) -> None:
        self._observer.stop()
        self._observer.join()


class _Handler(FileSystemEventHandler):
    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def on_any_event(self, event: FileSystemEvent) -> None:
        is_new = event.event_type == EVENT_TYPE_CREATED
        for path in (event.src_path, event.dest_path):
            if path:
                self._changes.put(os.fsdecode(path), is_new=is_new)


@asynccontextmanager
async def observe(folders: Mapping[str, bool], lock: Path | None = None) -> AsyncIterator[Changes]:
    """`lock`: while this file is there, what changes belongs together."""
    changes = Changes(lock)
    changes.watch(folders)
    changes.start()
    try:
        yield changes
    finally:
        await asyncio.to_thread(changes.stop)


def watched_folders(project: Project) -> Mapping[str, bool]:
    """Folder -> whether its subfolders are watched too.

    Files are watched through their folders: an editor that saves by renaming replaces the file,
    and a watch on the file itself would stay with the old one.
    """
    folders: dict[str, bool] = {str(path.parent): False for path in project.watched_files}
    for service in project.services.values():
        for path in watched_paths(service):
            if os.path.isdir(path):
                folders[path] = True
            else:
                folders.setdefault(os.path.dirname(path), False)
    return folders
