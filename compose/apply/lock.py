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

from compose.errors import Busy


@contextlib.contextmanager
def project_lock(folder: Path, *, engine: str, project: str, action: str) -> Iterator[None]:
    """`action`: what is going on, in one word, for whoever is told that it is. Raises Busy."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = hashlib.sha256(f"{engine}\0{project}".encode()).hexdigest()[:32]
    # Never unlinked: two processes could then hold locks of two files of the same name.
    with open(folder / f"{name}.lock", "a+", opener=_private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Busy(_who(project, file.read())) from None
        file.seek(0)
        file.truncate()
        holder = {"pid": os.getpid(), "action": action, "since": int(time.time())}
        json.dump(holder, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


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
    return os.open(path, flags, 0o600)
