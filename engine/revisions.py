"""Revisions of projects: what was declared, when, by whom. One instance a daemon.

`<root>/<project>/<number>.json` is one of them, as the client gave it, with the number and the time
that were given here. What is in it is the client's business; its key `model` is left out of lists.
"""

import asyncio
import contextlib
import re
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import InvalidRequest, NotFound
from engine.oci.document import as_object
from engine.records import read_record, remove_torn, sync_directory, write_record

KEPT = 100  # of a project; the oldest go
_NAME = re.compile(
    r"[a-z0-9][a-z0-9_-]{0,254}"
)  # of a project, as the Compose specification has it
_FILE = re.compile(r"([1-9][0-9]*)\.json")

Document = Mapping[str, object]


class Revisions:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = asyncio.Lock()  # numbers are given one after another

    @classmethod
    async def open(cls, root: Path) -> "Revisions":
        """`root` is <data-root>/revisions. Removes what a crash left half written."""

        def clear() -> None:
            for folder in root.iterdir() if root.is_dir() else ():
                remove_torn(folder)
                with contextlib.suppress(OSError):  # something is in it, as it should
                    folder.rmdir()

        await asyncio.to_thread(clear)
        return cls(root)

    async def add(self, project: str, document: Document) -> Document:
        """The revision with its number and time (RFC 3339), once it is on disk."""
        folder = self._folder(project)
        async with self._lock:
            return await asyncio.to_thread(_add, folder, document)

    async def list(self, project: str) -> list[Document]:
        """The oldest first, each without its `model`."""
        folder = self._folder(project)

        def read() -> list[Document]:
            return [_without_model(_read(folder, number)) for number in _numbers(folder)]

        async with self._lock:  # none goes while it is read
            return await asyncio.to_thread(read)

    async def get(self, project: str, number: int) -> Document:
        """Raises NotFound."""
        folder = self._folder(project)
        try:
            return await asyncio.to_thread(_read, folder, number)
        except FileNotFoundError:
            raise NotFound(f"project {project} has no revision {number}") from None

    async def remove(self, project: str) -> None:
        """All of them."""
        folder = self._folder(project)

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)
            with contextlib.suppress(OSError):  # other projects have theirs
                self._root.rmdir()

        async with self._lock:
            await asyncio.to_thread(remove)

    def _folder(self, project: str) -> Path:
        if not _NAME.fullmatch(project):
            raise InvalidRequest(f"invalid project name {project!r}")
        return self._root / project


def _add(folder: Path, document: Document) -> Document:
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True)
        sync_directory(folder.parent)
        sync_directory(folder.parent.parent)
    numbers = _numbers(folder)
    number = numbers[-1] + 1 if numbers else 1
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole = {**document, "number": number, "time": now}
    write_record(folder / f"{number}.json", whole)
    for old in numbers[: max(0, len(numbers) + 1 - KEPT)]:
        (folder / f"{old}.json").unlink(missing_ok=True)
    return whole


def _numbers(folder: Path) -> list[int]:
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(found[1]) for name in names if (found := _FILE.fullmatch(name)))


def _read(folder: Path, number: int) -> Document:
    return as_object(read_record(folder / f"{number}.json"), f"revision {number}")


def _without_model(document: Document) -> Document:
    return {key: value for key, value in document.items() if key != "model"}
