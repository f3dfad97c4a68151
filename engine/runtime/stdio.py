"""A process's input and outputs (pipes or the master of a pty), its log, and who is attached.

Clients are stream sockets. Each gets every byte, framed as Docker's stdcopy (raw for a terminal).
A client that does not read holds the process up, as Docker's does, instead of losing bytes or
growing this process; once the process is dead what is left in the pipes is read regardless.
"""

import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Protocol

from engine.kernel.libc import give_back_memory
from engine.runtime.poller import GONE, READABLE, WRITABLE, Poller

STDOUT, STDERR = 1, 2
_CHUNK = 65536
INPUT = 4 * _CHUNK  # bytes of input that are read at once, and that wait for the process
_MOST_PENDING = 512 * 1024  # bytes one client may be behind
_LARGE = 8192  # bytes read at once that leave something to give back
_QUIET = 1.0  # seconds after which that is done
_LAST_WORDS = 2.0  # seconds that others may still write after the process itself is dead


class Log(Protocol):
    def write(self, stream: int, chunk: bytes) -> None: ...
    def finish(self) -> None: ...


class Client:
    def __init__(self, connection: socket.socket, *, wants: frozenset[int], stdin: bool) -> None:
        self.connection = connection
        self.descriptor = connection.fileno()
        self.wants = wants
        self.stdin = stdin  # still may send input
        self.leaves = False  # as soon as it has what is pending
        self.pending = bytearray()


class Stdio:
    def __init__(
        self,
        poller: Poller,
        *,
        log: Log | None,
        close_input_after_client: bool,
        when_drained: Callable[[], None],
    ) -> None:
        self._poller = poller
        self.log = log
        self.close_input_after_client = close_input_after_client
        self._when_drained = when_drained
        self._outputs: dict[int, int] = {}  # descriptor -> STDOUT or STDERR
        self._input = -1
        self._terminal = False
        self._clients: list[Client] = []
        self._unread = b""  # input that the process did not take yet
        self._input_ends = False
        self._held = False
        self.ending = False
        self.drained = False

    # --- wiring ---------------------------------------------------------------------------

    def use_input(self, stdin: int) -> None:
        """Our end of a pipe."""
        os.set_blocking(stdin, False)
        self._input = stdin
        self._feed_input()

    def use_outputs(self, outputs: Mapping[int, int]) -> None:
        """Our ends of pipes: which stream each of them is."""
        for descriptor, stream in outputs.items():
            os.set_blocking(descriptor, False)
            self._outputs[descriptor] = stream
        self._watch_outputs()

    def use_terminal(self, master: int) -> None:
        os.set_blocking(master, False)
        self._terminal = True
        self.close_input_after_client = False
        self._input = master
        self._outputs[master] = STDOUT
        self._watch_outputs()
        self._feed_input()

    @property
    def terminal(self) -> int | None:
        return self._input if self._terminal and self._input >= 0 else None

    @property
    def has_clients(self) -> bool:
        return bool(self._clients)

    def attach(self, connection: socket.socket, *, wants: frozenset[int], stdin: bool) -> None:
        connection.setblocking(False)
        client = Client(connection, wants=wants, stdin=stdin)
        self._clients.append(client)
        if self.drained:
            self._drop(client)
        else:
            self._watch_client(client)

    def finish(self) -> None:
        """The process is dead: read what it left; `when_drained` follows, at once or soon."""
        self.ending = True
        self._held = False
        for descriptor in list(self._outputs):
            while descriptor in self._outputs and self._read_output(descriptor):
                pass
        if self._outputs:
            self._watch_outputs()
            self._poller.at(self, _LAST_WORDS, self._end)
        else:
            self._end()

    def close_clients(self) -> None:
        """Each as soon as it has all its bytes."""
        for client in list(self._clients):
            if not client.pending:
                self._drop(client)

    # --- outputs --------------------------------------------------------------------------

    def _watch_outputs(self) -> None:
        for descriptor in self._outputs:
            if self._held:
                # Not at all, rather than for no events: the end of a pipe is always told.
                self._poller.forget(descriptor)
                if self._terminal:
                    self._feed_input()
            else:
                self._watch_output(descriptor)

    def _watch_output(self, descriptor: int) -> None:
        events = READABLE
        if self._terminal and self._unread:
            events |= WRITABLE
        self._poller.watch(descriptor, events, lambda found: self._on_output(descriptor, found))

    def _on_output(self, descriptor: int, events: int) -> None:
        if events & WRITABLE:
            self._feed_input()
        if events & (READABLE | GONE) and descriptor in self._outputs:
            self._read_output(descriptor)
            if self.ending and not self._outputs:
                self._end()

    def _read_output(self, descriptor: int) -> bool:
        """Whether there may be more at once."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # EIO: the last process let go of the terminal
            chunk = b""
        if not chunk:
            self._close_output(descriptor)
            return False
        if len(chunk) > _LARGE:
            self._poller.at("quiet", _QUIET, give_back_memory)
        stream = self._outputs[descriptor]
        if self.log is not None:
            self.log.write(stream, chunk)
        for client in [client for client in self._clients if stream in client.wants]:
            if not self._terminal:
                client.pending += struct.pack(">BxxxL", stream, len(chunk))
            client.pending += chunk
            self._flush(client)
        return True

    def _close_output(self, descriptor: int) -> None:
        self._poller.forget(descriptor)
        del self._outputs[descriptor]
        if descriptor == self._input:
            self._input = -1
        os.close(descriptor)

    def _hold_or_resume(self) -> None:
        held = not self.ending and any(
            len(client.pending) > _MOST_PENDING for client in self._clients
        )
        if held != self._held:
            self._held = held
            self._watch_outputs()

    def _end(self) -> None:
        if self.drained:
            return
        self.drained = True
        self._poller.cancel(self)
        for descriptor in list(self._outputs):
            self._close_output(descriptor)
        self._close_input()
        if self.log is not None:
            self.log.finish()
        self._when_drained()

    # --- clients --------------------------------------------------------------------------

    def _watch_client(self, client: Client) -> None:
        events = 0
        if client.stdin and not self._unread:
            events |= READABLE
        if client.pending:
            events |= WRITABLE
        self._poller.watch(client.descriptor, events, lambda found: self._on_client(client, found))

    def _on_client(self, client: Client, events: int) -> None:
        if events & READABLE and client.stdin:
            self._read_client(client)
        elif events & GONE:
            self._drop(client)
            return
        if events & WRITABLE and client in self._clients:
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            while client.pending:
                sent = client.connection.send(client.pending, socket.MSG_NOSIGNAL)
                del client.pending[:sent]
        except BlockingIOError:
            pass  # the rest follows when it reads
        except OSError:
            self._drop(client)
            return
        if (self.drained or client.leaves) and not client.pending:
            self._drop(client)
            return
        self._watch_client(client)
        self._hold_or_resume()

    def _drop(self, client: Client) -> None:
        self._clients.remove(client)
        self._poller.forget(client.descriptor)
        client.connection.close()
        if client.stdin:
            client.stdin = False
            self._client_input_ended()
        self._hold_or_resume()

    # --- input ----------------------------------------------------------------------------

    def _read_client(self, client: Client) -> None:
        try:
            chunk = client.connection.recv(INPUT)
        except BlockingIOError:
            return
        except OSError:
            self._drop(client)
            return
        if chunk:
            if self._input >= 0:
                self._unread += chunk
                self._feed_input()
            return
        client.stdin = False
        self._client_input_ended()
        if not self.close_input_after_client:
            # As Docker: whoever has said all to a process that listens on is done with it.
            client.wants, client.leaves = frozenset(), True
            self._flush(client)
        elif client in self._clients:
            self._watch_client(client)

    def _client_input_ended(self) -> None:
        """The first of several ends it for all, as in Docker."""
        if self.close_input_after_client:
            self._input_ends = True
            self._feed_input()

    def _feed_input(self) -> None:
        """Pass on what clients sent; while the process does not take it they wait."""
        if self._input < 0:
            self._unread = b""
            return
        had = bool(self._unread)
        try:
            while self._unread:
                self._unread = self._unread[os.write(self._input, self._unread) :]
        except BlockingIOError:
            pass  # goes on when the pipe has room
        except OSError:
            # The process closed its input: what comes is thrown away, as a pipe does.
            self._unread = b""
            if not self._terminal:
                self._close_input()
        if self._terminal:
            if self._input in self._outputs and not self._held:
                self._watch_output(self._input)
        elif self._input >= 0:
            if self._unread:
                self._poller.watch(self._input, WRITABLE, lambda _: self._feed_input())
            else:
                self._poller.forget(self._input)
                if self._input_ends:
                    self._close_input()
        if had or self._unread:
            for client in self._clients:
                self._watch_client(client)

    def _close_input(self) -> None:
        descriptor, self._input = self._input, -1
        self._unread = b""
        if descriptor >= 0 and descriptor not in self._outputs:
            self._poller.forget(descriptor)
            os.close(descriptor)


class Pipes:
    """Stdin, stdout and stderr of a process without a terminal; what is not wanted is null.
    `null`: a descriptor of that, which is taken over; -1: the host's."""

    def __init__(
        self, *, stdin: bool, stdout: bool = True, stderr: bool = True, null: int = -1
    ) -> None:
        self.input = -1
        self.outputs: dict[int, int] = {}
        if null < 0:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        theirs = [null, null, null]
        if stdin:
            theirs[0], self.input = os.pipe()
            with contextlib.suppress(OSError):  # it has less room then
                fcntl.fcntl(self.input, fcntl.F_SETPIPE_SZ, INPUT)
        for number, wanted in ((STDOUT, stdout), (STDERR, stderr)):
            if wanted:
                reading, theirs[number] = os.pipe()
                self.outputs[reading] = number
        self._opened = {null, *theirs}
        self.theirs = (theirs[0], theirs[1], theirs[2])

    def close_theirs(self) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

    def close(self) -> None:
        """Where there will be no such process."""
        self.close_theirs()
        for descriptor in (*self.outputs, *([self.input] if self.input >= 0 else ())):
            os.close(descriptor)


def wanted(body: Mapping[str, object]) -> frozenset[int]:
    return frozenset(
        number for number, name in ((STDOUT, "stdout"), (STDERR, "stderr")) if body.get(name)
    )
