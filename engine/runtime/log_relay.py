"""A log whose writer must never hold the container up: a process of its own writes it.

What that one does not take at once waits here, up to a limit; then the newest is lost, in whole
lines, as with Docker's `mode=non-blocking`.
"""

import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NoReturn

from engine.kernel import privileges, process
from engine.runtime.log_writer import Lines, LogWriter
from engine.runtime.poller import WRITABLE, Poller

# Stream, whether the text ends in a line end, when it was read, how long it is.
_HEAD = struct.Struct("=B?qI")
# Seconds that the end of a container waits for its log to be written: Docker's.
_PATIENCE = 10.0
_PAUSE = 0.1  # seconds


class LogRelay:
    """Stands for the LogWriter that `open_writer` makes, in the process that needs it."""

    def __init__(self, poller: Poller, open_writer: Callable[[], LogWriter], limit: int) -> None:
        """`limit`: bytes of output that may wait."""
        self._poller = poller
        self._open_writer = open_writer
        self._limit = limit
        self._lines = Lines()
        self._waiting: deque[tuple[bytes, int]] = deque()  # with the bytes of output in it
        self._size = 0
        self._sent = 0  # of the first that waits
        self._connection: socket.socket | None = None
        self._pidfd = -1
        self._start()

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        pid, pidfd = process.clone3()
        if pid == 0:
            _write_apart(theirs, self._open_writer)
        theirs.close()
        ours.setblocking(False)
        self._connection, self._pidfd = ours, pidfd
        self._sent = 0
        return ours

    def write(self, stream: int, chunk: bytes) -> None:
        self._add(self._lines.feed(stream, chunk))

    def finish(self) -> None:
        """The process is dead: now there is time to wait."""
        self._add(self._lines.finish())
        self._poller.cancel(self)
        connection = self._connection or self._start()
        self._poller.forget(connection.fileno())
        connection.settimeout(_PATIENCE)
        try:
            while self._waiting:
                connection.sendall(self._waiting[0][0][self._sent :])
                self._next()
        except OSError:
            self._waiting.clear()  # lost
        connection.close()
        # What it took and can't write in this time it writes whenever the disk lets it.
        select.select([self._pidfd], [], [], _PATIENCE)
        process.reap(self._pidfd)
        os.close(self._pidfd)

    def _add(self, lines: Iterable[tuple[int, bytes, bool]]) -> None:
        for stream, text, ended in lines:
            room = self._limit - self._size
            if len(text) > room and self._waiting:
                # What does not fit is lost from a line end on, so that no two lines become one.
                text = text[: text.rfind(b"\n", 0, max(room, 0)) + 1]
            if text:
                head = _HEAD.pack(stream, ended, time.time_ns(), len(text))
                self._waiting.append((head + text, len(text)))
                self._size += len(text)
        self._flush()

    def _next(self) -> None:
        self._size -= self._waiting.popleft()[1]
        self._sent = 0

    def _flush(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            while self._waiting:
                rest = memoryview(self._waiting[0][0])[self._sent :]
                sent = connection.send(rest, socket.MSG_NOSIGNAL)
                self._sent += sent
                if sent == len(rest):
                    self._next()
        except BlockingIOError:
            self._poller.watch(connection.fileno(), WRITABLE, lambda _: self._flush())
            return
        except OSError:
            self._replace(connection)
            return
        self._poller.forget(connection.fileno())

    def _replace(self, connection: socket.socket) -> None:
        """It was killed, or could not open the log: another one goes on soon, without what the
        first had taken."""
        self._poller.forget(connection.fileno())
        connection.close()
        self._connection = None
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        os.close(self._pidfd)
        self._poller.at(self, _PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._start()
        self._flush()


def _write_apart(connection: socket.socket, open_writer: Callable[[], LogWriter]) -> NoReturn:
    """In a child: to the end of the connection, which is also that of a shim that is killed."""
    try:
        privileges.set_name("pycompose-log")
        process.close_all_but(connection.fileno())
        writer = open_writer()
        with connection.makefile("rb") as records:
            while head := records.read(_HEAD.size):
                stream, ended, at, length = _HEAD.unpack(head)
                writer.record(stream, records.read(length), ended, at)
        writer.close()
    finally:
        os._exit(0)
