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
from compose.warm.child import Call, run, wait_for_call
from compose.warm.door import Door, open_door
from compose.warm.place import server_folder, server_name
from compose.warm.programs import rehearse, take_memory

IDLE = 600.0  # seconds
SOON = 0.1  # seconds: most commands are over by then, and are not to share a processor with a fork
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
        self._spare: tuple[int, socket.socket] | None = None  # a child without a caller so far
        self._wants_spare = True  # soon
        self._calls: dict[int, socket.socket] = {}  # pid of the child -> its caller
        self._abandoned: dict[int, float] = {}  # pid of the child -> when it is killed
        self._woken, self._waker = socket.socketpair()
        self._poll = select.poll()

    def serve(self) -> Call | None:
        """None: it is over. In a child: what it is to run."""
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno())
        for number in (signal.SIGCHLD, signal.SIGTERM):  # it is enough to hear of them
            signal.signal(number, lambda _number, _frame: None)
        for descriptor in (self._door.listener.fileno(), self._lifeline, self._woken.fileno()):
            self._poll.register(descriptor, select.POLLIN)
        while self._door.is_open or self._calls:
            ready = {descriptor for descriptor, _ in self._poll.poll(self._patience())}
            if not ready and self._wants_spare:
                if control := self._fork():
                    take_memory()
                    return wait_for_call(control, self._world)
                continue
            if not ready and not self._calls:
                self._close()  # nobody has called for long
            if self._lifeline in ready:
                self._close()
            if self._woken.fileno() in ready:
                if signal.SIGTERM in self._woken.recv(4096):
                    self._close()
                self._reap()
            for pid, connection in self._calls.items():
                if connection.fileno() in ready:
                    self._abandon(pid, connection)
            self._kill_late()
            # One at a time, since each needs a child.
            for connection in [each for each in self._waiting if each.fileno() in ready][:1]:
                if self._door.is_open and self._spare is None and (control := self._fork()):
                    return wait_for_call(control, self._world)
                self._take(connection)
            if self._door.is_open and self._door.listener.fileno() in ready:
                self._admit()
        return None

    def _patience(self) -> float | None:
        """Milliseconds."""
        limits = [] if self._calls else [self._idle]
        if self._wants_spare:
            limits.append(SOON if self._calls else 0.0)
        if self._abandoned:
            limits.append(max(0.0, min(self._abandoned.values()) - time.monotonic()))
        return min(limits) * 1000 if limits else None

    def _close(self) -> None:
        if self._door.is_open:
            self._poll.unregister(self._door.listener)
            self._poll.unregister(self._lifeline)
            self._door.close()
            self._wants_spare = False
            self._dismiss()

    def _admit(self) -> None:
        try:
            connection, _ = self._door.listener.accept()
        except OSError:  # whoever came has gone again
            return
        self._waiting.append(connection)
        self._poll.register(connection, select.POLLIN)

    def _take(self, connection: socket.socket) -> None:
        """Hand a call on to the spare child, which ends without a word from us. Nothing is done
        for somebody who only looks who is there, nor where our code is an old one: then the caller
        does its work itself. So it does where there is no spare, for want of memory or processes.
        """
        self._waiting.remove(connection)
        self._poll.unregister(connection)
        with contextlib.suppress(ConnectionError):
            if connection.recv(1, socket.MSG_PEEK) and self._spare:
                pid, control = self._spare
                # It looks at its caller while we look at our files.
                socket.send_fds(control, [b"C"], [connection.fileno()])
                if states(self._files) == self._files:
                    control.send(b"G")
                    control.close()
                    self._spare, self._wants_spare = None, self._door.is_open
                    self._calls[pid] = connection
                    self._poll.register(connection, _GONE)
                    return
                self._close()
        connection.close()

    def _fork(self) -> socket.socket | None:
        """Have a spare child. In there: what it hears of its call by."""
        self._wants_spare = False
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Those that a child gets wait until it has forgotten what we do about them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._forget()
                return theirs
            self._spare = (pid, ours)
        except OSError:  # no memory, too many processes
            ours.close()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return None

    def _dismiss(self) -> None:
        """The spare child has done nothing, so that it can be killed; and it may hang."""
        if self._spare is not None:
            pid, control = self._spare
            self._spare = None
            control.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _forget(self) -> None:
        """A child has none of the server's files; that their numbers become its own files' must
        not matter to these objects. Nor does it do what the server does at a signal."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
        while self._calls or self._spare:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return
            if self._spare and pid == self._spare[0]:
                if not os.WIFSTOPPED(status):  # somebody killed it: the next call has none
                    self._spare[1].close()
                    self._spare = None
                continue
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
