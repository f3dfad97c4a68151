"""One change of a project at a time: a lock a project and engine, held by the process at work.

The file says who holds it. The kernel lets go of it when the process ends, however it ends; files
of those that were killed go with the next that ends by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from compose.errors import Busy, UsageError


@contextlib.contextmanager
def project_lock(folder: Path, *, engine: str, project: str, action: str) -> Iterator[None]:
    """`action`: what is going on, in one word, for whoever is told that it is. Raises Busy."""
    name = hashlib.sha256(f"{engine}\0{project}".encode()).hexdigest()[:32]
    file = _open_locked(folder, f"{name}.lock", project)
    try:
        with file:
            file.seek(0)
            file.truncate()
            json.dump({"pid": os.getpid(), "action": action, "since": int(time.time())}, file)
            file.flush()
            yield
    finally:
        _clear(folder)


def _open_locked(folder: Path, name: str, project: str) -> IO[str]:
    while True:
        with contextlib.suppress(FileExistsError):  # exist_ok fails if it goes at that moment
            folder.mkdir(mode=0o700, parents=True)
        # Not found: another one has just removed the folder.
        with contextlib.suppress(FileNotFoundError), _held(folder, fcntl.LOCK_SH) as held:
            if os.fstat(held).st_uid != os.getuid():
                raise UsageError(
                    f"cannot lock project {project}: {folder} belongs to another user\n"
                    "  hint: set XDG_RUNTIME_DIR to a folder of yours"
                )
            file = _open(name, held)
            if not _lock(file):
                with file:
                    file.seek(0)
                    raise Busy(_who(project, file.read()))
            return file


def _clear(folder: Path) -> None:
    """Remove the files that nobody holds."""
    with contextlib.suppress(FileNotFoundError), _held(folder, fcntl.LOCK_EX) as held:
        for name in os.listdir(held):
            with _open(name, held) as file:
                if _lock(file):
                    os.unlink(name, dir_fd=held)
        with contextlib.suppress(OSError):  # others are at work
            folder.rmdir()


@contextlib.contextmanager
def _held(folder: Path, how: int) -> Iterator[int]:
    """The folder's descriptor. Shared by those who open a file and lock it, so that it is not
    removed in between; for one alone who removes some."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, how)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open(name: str, folder: int) -> IO[str]:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
    return open(os.open(name, flags, 0o600, dir_fd=folder), "a+")


def _who(project: str, text: str) -> str:
    what = f"another pycompose is changing project {project}"
    try:
        holder = json.loads(text)
        seconds = max(0, int(time.time()) - int(holder["since"]))
        what += f": {holder['action']}, process {holder['pid']}, for {seconds} s"
    except (ValueError, KeyError, TypeError):
        what += ": it has only just begun"
    return f"{what}\n  hint: wait for it to end, or stop it with Ctrl-C there"
