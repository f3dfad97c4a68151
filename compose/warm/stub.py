"""Asks a warm server to run this command. Every command imports this, so it takes its modules
from below the standard library's: `socket` and `signal` alone would be 5 ms of its 15."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found, unused-ignore]
import _socket
import marshal
import os
import sys

from compose.warm.place import allows, engine_socket, server_folder, server_name

PATIENCE = 2.0  # seconds, for a server to say that it is ready; then the work is done here
MESSAGE = 5  # bytes: a letter and a number
FILES = 250  # the kernel passes 253 at once
# In a terminal these read from it as long as they run. Only a process that the shell started is
# one of its jobs, and can be stopped for reading in the background.
_READERS = frozenset(("up", "run", "exec", "attach", "start", "watch", "login", "secret"))
_DETACHED = frozenset(("-d", "--detach", "--wait", "--no-start"))
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGWINCH", "SIGTSTP", "SIGCONT",
              "SIGUSR1", "SIGUSR2")  # fmt: skip


def ask(program: str) -> None:
    """Let a warm process run `program` with our arguments, and end as it ends. Returns where there
    is none that would, and nothing has been done."""
    environment = os.environ
    if not allows(environment) or _needs_terminal(sys.argv[1:]):
        return
    socket = engine_socket(environment)
    if not socket:
        return
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(f"{server_folder(environment)}/{server_name(socket, environment)}")
        if _uid_of(connection) != os.getuid():
            return
        numbers = _inherited(connection.fileno())
        if len(numbers) <= FILES:
            call = marshal.dumps(
                (program, sys.argv, sys.path, dict(environment), _umask(), numbers)
            )  # fmt: skip
            connection.sendall(len(call).to_bytes(8, sys.byteorder) + call)
            _Command(connection, numbers).run()
    except (OSError, ValueError):  # ValueError: something that marshal can't write
        return
    finally:
        connection.close()


def _needs_terminal(words: list[str]) -> bool:
    try:
        if not os.isatty(0):
            return False
        in_background = os.tcgetpgrp(0) != os.getpgrp()
    except OSError:
        return True
    return in_background or not (_READERS.isdisjoint(words) or not _DETACHED.isdisjoint(words))


def _uid_of(connection: _socket.socket) -> int:
    found = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(found[4:8], sys.byteorder)


def _inherited(own: int) -> list[int]:
    """What is open here from our own start on; 0, 1 and 2 may well be closed."""
    numbers = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number != own and os.get_inheritable(number):
                numbers.append(number)
        except OSError:  # what listed the folder
            continue
    return numbers


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


class _Command:
    """What another process does for us."""

    def __init__(self, connection: _socket.socket, files: list[int]) -> None:
        self._connection = connection
        self._files = files
        self._process = -1  # pidfd

    def run(self) -> None:
        """Returns where it was refused; else the process ends. Raises OSError where it has not
        begun."""
        ready, pid = self._next()
        if ready != b"R":
            return
        folder = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        files = b"".join(number.to_bytes(4, sys.byteorder) for number in (folder, *self._files))
        self._process = os.pidfd_open(pid)
        for name in _FORWARDED:
            number = getattr(_signal, name)
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, self._forward)
        self._connection.settimeout(None)
        self._connection.sendmsg([b"G"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, files)])
        os.close(folder)
        try:
            said, number = self._next()
            while said == b"T":
                self._stop(number)
                said, number = self._next()
        except OSError as error:
            self._lost(str(error))
        if said != b"E":
            self._lost("it has gone")
        self._end(number)

    def _next(self) -> tuple[bytes, int]:
        """A message; an empty one at the end of the connection."""
        text = b""
        while len(text) < MESSAGE:
            block = self._connection.recv(MESSAGE - len(text))
            if not block:
                return b"", 0
            text += block
        return text[:1], int.from_bytes(text[1:], sys.byteorder)

    def _forward(self, number: int, _frame: object) -> None:
        try:
            _signal.pidfd_send_signal(self._process, number)
        except ProcessLookupError:  # it has ended, and we are about to hear of it
            return

    def _stop(self, number: int) -> None:
        """As the command was; whoever lets us go on, lets it go on."""
        if number != _signal.SIGSTOP:
            before = _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
        if number != _signal.SIGSTOP:
            _signal.signal(number, before)

    def _end(self, status: int) -> None:
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number != _signal.SIGKILL:
                _signal.signal(number, _signal.SIG_DFL)
            os.kill(os.getpid(), number)
        os._exit(os.waitstatus_to_exitcode(status))

    def _lost(self, reason: str) -> None:
        """The server was killed. The command goes on to its end, so we wait, but nobody knows how
        it ended."""
        from select import poll

        waiting = poll()
        waiting.register(self._process)
        waiting.poll()
        sys.stderr.write(
            f"cannot say how the command ended: lost the warm process that ran it: {reason}\n"
            "  hint: look at what it did; PYCOMPOSE_WARM=0 runs commands without one\n"
        )
        sys.stderr.flush()
        os._exit(1)
