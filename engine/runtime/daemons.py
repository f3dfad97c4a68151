"""The daemons that are connected to a shim: most often one, none while it restarts.

Requests come in, replies and events go out, and nothing here ever waits for a daemon.
"""

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping

from engine.runtime import channel
from engine.runtime.channel import Message
from engine.runtime.poller import READABLE, WRITABLE, Poller

_MOST_QUEUED = 4096  # messages to one that does not read


class Daemon:
    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.descriptor = connection.fileno()
        self.queue: list[tuple[bytes, tuple[int, ...]]] = []

    def empty(self) -> None:
        for _, descriptors in self.queue:
            for descriptor in descriptors:
                os.close(descriptor)
        self.queue.clear()


class Daemons:
    def __init__(
        self,
        poller: Poller,
        on_message: Callable[[Daemon, Message], None],
        on_all_left: Callable[[], None],
    ) -> None:
        self._poller = poller
        self._on_message = on_message
        self._on_all_left = on_all_left
        self._connected: list[Daemon] = []

    def __bool__(self) -> bool:
        return bool(self._connected)

    def __contains__(self, daemon: Daemon) -> bool:
        return daemon in self._connected

    def add(self, connection: socket.socket) -> Daemon:
        daemon = Daemon(connection)
        self._connected.append(daemon)
        self._watch(daemon)
        return daemon

    def only(self) -> socket.socket | None:
        """The connection of the one that is there, if it is alone and was told everything."""
        if len(self._connected) != 1 or self._connected[0].queue:
            return None
        return self._connected[0].connection

    def tell(
        self, daemon: Daemon, body: Mapping[str, object], descriptors: tuple[int, ...] = ()
    ) -> None:
        """Send a message and copies of the descriptors, now or when there is room."""
        copies = tuple(fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 3) for one in descriptors)
        daemon.queue.append((channel.encode(dict(body)), copies))
        self._flush(daemon)

    def broadcast(self, body: Mapping[str, object], descriptors: tuple[int, ...] = ()) -> None:
        for daemon in list(self._connected):
            self.tell(daemon, body, descriptors)

    def _watch(self, daemon: Daemon) -> None:
        events = READABLE | (WRITABLE if daemon.queue else 0)
        self._poller.watch(daemon.descriptor, events, lambda found: self._turn(daemon, found))

    def _turn(self, daemon: Daemon, events: int) -> None:
        if events & WRITABLE:
            self._flush(daemon)
        if events & ~WRITABLE and daemon in self._connected:
            try:
                message = channel.receive(daemon.connection)
            except BlockingIOError:
                return
            if message is None:
                self._drop(daemon)
            else:
                self._on_message(daemon, message)

    def _flush(self, daemon: Daemon) -> None:
        try:
            while daemon.queue:
                body, descriptors = daemon.queue[0]
                channel.send_encoded(daemon.connection, body, descriptors)
                del daemon.queue[0]
                for descriptor in descriptors:
                    os.close(descriptor)
        except BlockingIOError:
            if len(daemon.queue) > _MOST_QUEUED:
                self._drop(daemon)
                return
        except OSError:
            # It is gone; its end of file follows, or came just now.
            daemon.empty()
        self._watch(daemon)

    def _drop(self, daemon: Daemon) -> None:
        self._connected.remove(daemon)
        self._poller.forget(daemon.descriptor)
        daemon.empty()
        if not self._connected:
            # First: who waits for our end of the connection to close waits for this, too.
            self._on_all_left()
        daemon.connection.close()


def user_of(connection: socket.socket) -> int:
    """The uid of the process at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    uid: int = struct.unpack("=3i", credentials)[1]
    return uid
