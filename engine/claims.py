"""One engine a folder. The claim is a lock on the folder itself: a crash leaves nothing of it."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from engine.errors import Failure


def claim(folder: Path, mode: int) -> int:
    """Make `folder` ours alone for as long as the returned descriptor is open; raises Failure."""
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failure(f"cannot use {folder}: {error.strerror}") from error
    try:
        _take(folder, descriptor)
        os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _take(folder: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pids = holders(folder)
        who = f" (pid {min(pids)})" if len(pids) == 1 else ""
        raise Failure(
            f"cannot use {folder}: another engine works there{who}; "
            "stop it by `pyengine stop`, or choose another folder"
        ) from None
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_IWOTH:
        raise Failure(
            f"cannot use {folder}: others may write there; "
            f"chown {os.geteuid()} and chmod o-w it, or choose another folder"
        )


def holders(folder: Path) -> set[int]:
    """The process that holds the claim, as far as the kernel tells; none where nobody does.

    proc_locks(5) names a file by the device of its file system, which stat doesn't tell for all of
    them, and by its inode: so processes may be among these that hold another one of that number."""
    try:
        inode = str(folder.stat().st_ino)
    except FileNotFoundError:
        return set()
    # "1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF"
    locks = map(str.split, Path("/proc/locks").read_text().splitlines())
    pids = {
        int(words[4])
        for words in locks
        if len(words) >= 6 and words[1] == "FLOCK" and words[5].split(":")[2] == inode
    }
    return pids - {0}  # of a process that we can't see
