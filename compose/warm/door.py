"""The socket of a server: one of a name, in a folder of the user's alone. A crash leaves a socket
that nobody listens on; the next server removes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path


class Door:
    def __init__(self, path: Path, listener: socket.socket) -> None:
        self.listener = listener
        self._path = path
        self._inode = path.stat().st_ino

    @property
    def is_open(self) -> bool:
        return self.listener.fileno() >= 0

    def close(self) -> None:
        """Takes no more calls, and leaves nothing behind."""
        self.listener.close()
        with contextlib.suppress(FileNotFoundError), _locked(self._path.parent):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        for folder in self._path.parents[:2]:
            with contextlib.suppress(OSError):  # another server's socket, or the engine's, is there
                folder.rmdir()


def open_door(path: Path) -> Door | None:
    """None where another server has it. Raises OSError."""
    folder = path.parent
    folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not ours alone")
    # Of two that start at once, one gives way.
    with _locked(folder):
        for each in folder.glob("*.sock"):
            if peer_of(each) is None:
                each.unlink(missing_ok=True)
        if path.exists():
            return None
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        listener.listen(64)
        return Door(path, listener)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def peer_of(path: Path | str) -> tuple[int, int] | None:
    """The pid and the uid of whoever listens on a socket; None: nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return None
        return credentials(connection)[:2]


def credentials(connection: socket.socket) -> tuple[int, int, int]:
    """pid, uid and gid of the other side; pid 0: it is in a namespace that we can't see into."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid, gid = memoryview(found).cast("i")
    return pid, uid, gid
