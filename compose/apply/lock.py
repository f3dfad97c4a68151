"""One change of a project at a time: a lock a project and engine, held by the process at work.

The file says who holds it. The kernel lets go of it when the process ends, however it ends.
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
    path = folder / f"{name}.lock"
    with _open_locked(path, project) as file:
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "action": action, "since": int(time.time())}, file)
        file.flush()
        try:
            yield
        finally:
            # While it is still held: whoever has opened it meanwhile sees that it is gone.
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # others are at work
                folder.rmdir()


def _open_locked(path: Path, project: str) -> IO[str]:
    while True:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            owner = path.parent.lstat().st_uid
            file = open(path, "a+", opener=_private)  # noqa: SIM115
        except FileNotFoundError:
            continue  # the last holder has just removed the folder
        if owner != os.getuid():
            file.close()
            raise UsageError(
                f"cannot lock project {project}: {path.parent} belongs to another user\n"
                "  hint: set XDG_RUNTIME_DIR to a folder of yours"
            )
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                raise Busy(_who(project, file.read())) from None
        if _is_at(file, path):
            return file
        file.close()


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether the lock is one of the file that others would open."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _who(project: str, text: str) -> str:
    what = f"another pycompose is changing project {project}"
    try:
        holder = json.loads(text)
        seconds = max(0, int(time.time()) - int(holder["since"]))
        what += f": {holder['action']}, process {holder['pid']}, for {seconds} s"
    except (ValueError, KeyError, TypeError):
        what += ": it has only just begun"
    return f"{what}\n  hint: wait for it to end, or stop it with Ctrl-C there"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)
