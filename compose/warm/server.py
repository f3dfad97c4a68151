"""The warm process: `python -m compose.warm.server SOCKET FILE NAME` serves callers of one kind
at the door NAME, until the engine at SOCKET, to which FILE is a connection, ends.

One thread, no event loop: what is forked is just what was imported.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from compose.warm.caller import look_at
from compose.warm.child import Call, become, run
from compose.warm.door import Door, open_door
from compose.warm.place import server_folder, server_name
from compose.warm.programs import rehearse

IDLE = 600.0  # seconds
GRACE = 5.0  # seconds for a command whose caller has gone to end by SIGHUP
_GONE = select.POLLRDHUP | select.POLLHUP | select.POLLERR

States = dict[str, tuple[int, int, int] | None]


def main(idle: float = IDLE) -> None:
    born = time.time_ns()
    engine, lifeline, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if server_name(engine, os.environ) != name:
        return  # this interpreter came up otherwise than the one that started it
    os.chdir("/")
    rehearse(engine)
    files = states(path for path in source_files() if path)
    if any(each and each[0] > born for each in files.values()):
        return  # written while it was read: who knows which half we have
    gc.collect()
    gc.freeze()
    door = open_door(Path(server_folder(os.environ), name))
    Path("/proc/self/comm").write_text("pycompose-warm")
    call = Server(door, lifeline, files, idle).serve() if door else None
    if call:
        run(call)


def source_files() -> set[str | None]:
    """Of all modules, the interpreter, and the folders in which it looks for modules."""
    modules = {getattr(module, "__file__", None) for module in sys.modules.values()}
    return {*modules, *sys.path, sys.executable}


def states(paths: Iterable[str]) -> States:
    """In which any change shows."""
    found: States = {}
    for path in paths:
        try:
            status = os.stat(path)
            found[path] = (status.st_ctime_ns, status.st_size, status.st_ino)
        except OSError:
            found[path] = None
    return found


class Server:
    def __init__(self, door: Door, lifeline: int, files: States, idle: float) -> None:
        self._door = door
        self._lifeline = lifeline
        self._files = files
        self._idle = idle  # seconds without a call, then it ends
        self._world = look_at("self").world()
        self._waiting: list[socket.socket] = []  # for who connected to say a word
        self._calls: dict[int, socket.socket] = {}  # pid of the child -> its caller
        self._abandoned: dict[int, float] = {}  # pid of the child -> when it is killed
        self._woken, self._waker = socket.socketpair()
        self._poll = select.poll()

    def serve(self) -> Call | None:
        """None: it is over. In a child: what it is to run."""
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno())
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        signal.signal(signal.SIGTERM, lambda _number, _frame: self._close())
        for descriptor in (self._door.listener.fileno(), self._lifeline, self._woken.fileno()):
            self._poll.register(descriptor, select.POLLIN)
        while self._door.is_open or self._calls:
            ready = {descriptor for descriptor, _ in self._poll.poll(self._patience())}
            if not ready and not self._calls:
                self._close()  # nobody has called for long
            if self._lifeline in ready:
                self._close()
            if self._woken.fileno() in ready:
                self._reap()
            for pid, connection in self._calls.items():
                if connection.fileno() in ready:
                    self._abandon(pid, connection)
            self._kill_late()
            for connection in [each for each in self._waiting if each.fileno() in ready]:
                if self._wants_call(connection) and self._is_child(connection):
                    self._forget()
                    return become(connection, self._world)
            if self._door.is_open and self._door.listener.fileno() in ready:
                self._admit()
        return None

    def _patience(self) -> float | None:
        """Milliseconds."""
        if self._abandoned:
            return max(0.0, min(self._abandoned.values()) - time.monotonic()) * 1000
        return None if self._calls else self._idle * 1000

    def _close(self) -> None:
        if self._door.is_open:
            self._poll.unregister(self._door.listener)
            self._poll.unregister(self._lifeline)
            self._door.close()

    def _admit(self) -> None:
        try:
            connection, _ = self._door.listener.accept()
        except OSError:  # whoever came has gone again
            return
        self._waiting.append(connection)
        self._poll.register(connection, select.POLLIN)

    def _wants_call(self, connection: socket.socket) -> bool:
        """Not somebody who only looks who is there; and not where our code is an old one."""
        self._waiting.remove(connection)
        self._poll.unregister(connection)
        with contextlib.suppress(ConnectionError):
            if connection.recv(1, socket.MSG_PEEK):
                if states(self._files) == self._files:
                    return True
                self._close()
        connection.close()
        return False

    def _is_child(self, connection: socket.socket) -> bool:
        try:
            pid = os.fork()
        except OSError:  # no memory, too many processes: the caller does its work itself
            connection.close()
            return False
        if pid:
            self._calls[pid] = connection
            self._poll.register(connection, _GONE)
        return pid == 0

    def _forget(self) -> None:
        """A child has none of the server's files; that their numbers become its own files' must
        not matter to these objects."""
        signal.set_wakeup_fd(-1)
        for each in (
            self._door.listener,
            self._woken,
            self._waker,
            *self._waiting,
            *self._calls.values(),
        ):
            os.close(each.detach())
        os.close(self._lifeline)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(4096)
        while self._calls:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                tell(self._calls[pid], b"T", os.WSTOPSIG(status))
                continue
            connection = self._calls.pop(pid)
            tell(connection, b"E", status)
            if self._abandoned.pop(pid, None) is None:
                self._poll.unregister(connection)
            connection.close()

    def _abandon(self, pid: int, connection: socket.socket) -> None:
        """Its caller was killed: as if a terminal had hung up."""
        self._poll.unregister(connection)
        self._abandoned[pid] = time.monotonic() + GRACE
        os.kill(pid, signal.SIGHUP)
        os.kill(pid, signal.SIGCONT)

    def _kill_late(self) -> None:
        for pid, limit in self._abandoned.items():
            if time.monotonic() >= limit:
                os.kill(pid, signal.SIGKILL)
                self._abandoned[pid] = limit + GRACE


def tell(connection: socket.socket, letter: bytes, number: int) -> None:
    with contextlib.suppress(OSError):  # the caller has gone
        connection.sendall(letter + number.to_bytes(4, sys.byteorder))


if __name__ == "__main__":
    main()
