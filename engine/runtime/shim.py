"""One container's keeper: starts it, holds its stdio, writes its log, reaps it, records its end.

Forked by the spawner, it outlives both spawner and daemon. A daemon talks to it through the
socket it was launched with or, later, through `shim.sock` in the container's exec directory.
State on disk there: `shim.json` says who runs, `exit.json` how it ended, written before anybody is
told, `shim.log` what went wrong with the shim itself. When the container ended and no daemon is
connected, the shim cleans up and goes.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, cast

from engine.errors import EngineError
from engine.kernel import namespaces, privileges, process, procfs
from engine.oci.rootfs import Rootfs
from engine.runtime import channel, init, join, refuge, sequence
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.channel import Message
from engine.runtime.log_writer import LogWriter
from engine.runtime.poller import READABLE, WRITABLE, Poller
from engine.runtime.stdio import STDERR, STDOUT, Stdio
from engine.runtime.steps import Place, Step

SOCKET = "shim.sock"
RECORD = "shim.json"
EXIT = "exit.json"
LOG = "shim.log"
DNS_ADDRESS = "127.0.0.11"
_MOST_QUEUED = 4096  # messages to one daemon that does not read
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_NETLINK_ROUTE = 0
_NETLINK_NETFILTER = 12

# What may go wrong in a start without being a mistake of ours.
_EXPECTED = (OSError, sequence.SpecError, EngineError)

Reply = Callable[[Mapping[str, object], tuple[int, ...]], None]


class CannotStart(Exception):
    """The container or exec can't be started; `code` is what a shell would say."""

    def __init__(self, text: str, code: int = 128) -> None:
        super().__init__(text)
        self.code = code


class Daemon:
    """One connected daemon: its requests come in, replies and events go out, never blocking."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.descriptor = connection.fileno()
        self.queue: list[tuple[bytes, tuple[int, ...]]] = []

    def close(self) -> None:
        for _, descriptors in self.queue:
            _close_all(descriptors)
        self.queue.clear()
        self.connection.close()


class Starting:
    """Follows a child from its first step to execve through what it says on its socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.executing = False
        self.failure: CannotStart | None = None
        self.over = False

    def drain(self, on_message: Callable[[Message], None]) -> None:
        while not self.over:
            try:
                message = channel.receive(self.connection)
            except BlockingIOError:
                return
            if message is None:
                self.over = True
            elif message.body["state"] == "executing":
                self.executing = True
            elif message.body["state"] == "refused":
                text, code = cast(str, message.body["text"]), cast(int, message.body["code"])
                self.failure = CannotStart(text, code)
            else:
                on_message(message)
        if self.failure is None and not self.executing:
            self.failure = CannotStart("the process was killed before it could start", 137)


class Exec:
    """A process started in the container later on."""

    def __init__(self, key: str, stdio: Stdio, starting: Starting, joiner: int) -> None:
        self.key = key
        self.stdio = stdio
        self.starting = starting
        self.joiner = joiner
        self.pid = 0
        self.pidfd = -1
        self.ended: tuple[int, int | None] | None = None
        self.reported = False


class Shim:
    def __init__(
        self, connection: socket.socket, request: Mapping[str, object], hierarchy: Hierarchy
    ) -> None:
        self.poller = Poller()
        self.request = request
        self.container_id = cast(str, request["container_id"])
        self.spec = cast(Mapping[str, object], request["spec"])
        self.linux = cast(Mapping[str, object], self.spec.get("linux") or {})
        self.exec_dir = os.open(
            cast(str, request["exec_dir"]), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )
        self.cgroup = Cgroup(hierarchy, cast(str, self.linux["cgroupsPath"]))
        self.cgroup_made = False
        self.last_capability = cast(int, request["last_capability"])
        self.daemons: list[Daemon] = []
        self.listener: socket.socket | None = None
        self.execs: dict[str, Exec] = {}
        self.pid = 0
        self.pidfd = -1
        self.starting: Starting | None = None
        self.started = False
        self.go_reply: Reply | None = None
        self.went = False
        self.status: tuple[int, int | None] | None = None
        self.exit: dict[str, object] | None = None
        self.released = False
        self.mounts = -1
        self.network = -1
        self.dns: tuple[int, ...] = ()
        self.oom = -1
        self.add_daemon(connection)
        log = cast(Mapping[str, object], request["log"])
        path = cast(str, log["path"])
        self.stdio = Stdio(
            self.poller,
            log=LogWriter(path, cast(int, log["max_size"]), cast(int, log["max_file"]))
            if path
            else None,
            close_input_after_client=bool(request["stdin_once"]),
            when_drained=self.on_drained,
        )

    # --- beginning ------------------------------------------------------------------------

    def launch(self) -> None:
        for name in (EXIT, RECORD, SOCKET):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.exec_dir)
        process_spec = cast(Mapping[str, object], self.spec.get("process") or {})
        enclosure = sequence.enclosure(self.spec)
        self.cgroup.create(cast(Mapping[str, object], self.linux.get("resources") or {}))
        self.cgroup_made = True
        terminal = bool(process_spec.get("terminal"))
        ours, theirs = channel.pair()
        place = Place(theirs, self.cgroup)
        pipes = None if terminal else _Pipes(stdin=bool(self.request["open_stdin"]))
        with _joined_pid(enclosure.pid):
            child = init.start(self._plan, place, pipes.theirs if pipes else None, enclosure.new)
        theirs.close()
        self.pid, self.pidfd = child.pid, child.pidfd
        if pipes is not None:
            pipes.close_theirs()
            self.stdio.use_pipes(pipes.input, pipes.outputs)
        self.starting = Starting(ours)
        self.poller.watch(ours.fileno(), READABLE, lambda _: self.on_starting())
        self.poller.watch(self.pidfd, READABLE, lambda _: self.on_exit())
        self._hold_namespaces()
        self._listen()
        self._record()
        descriptors = self._sockets() if self.network >= 0 else ()
        self.broadcast({"event": "launched", **self._identity()}, descriptors)
        _close_all(descriptors[1:3])
        self._watch_oom()

    def _plan(self) -> Sequence[Step]:
        root = cast(Mapping[str, object], self.request["rootfs"])
        steps = sequence.container_sequence(
            self.spec,
            container_id=self.container_id,
            rootfs=Rootfs(
                tuple(cast("list[str]", root["lowers"])),
                cast(str, root["upper"]),
                cast(str, root["work"]),
                bool(root["read_only"]),
            ),
            hook=cast(str, self.request["exec_dir"]),
            user=cast(str, self.request["user"]),
            groups=tuple(cast("list[str]", self.request["groups"])),
            seccomp=bytes.fromhex(cast(str, self.request["seccomp"])),
            last_capability=self.last_capability,
        )
        return init.with_reaper(steps) if self.request["init"] else steps

    def _hold_namespaces(self) -> None:
        # While the shim holds it, the end of the container does not wait for the overlay's
        # file system to be synced, which unmounting does.
        self.mounts = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        if not self.request["own_network"]:
            return
        self.network = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with _in_network(self.network):
            _raise_loopback()
            if self.request["dns"]:
                udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                for one in (udp, tcp):
                    one.bind((DNS_ADDRESS, 0))
                tcp.listen(128)
                self.dns = (udp.detach(), tcp.detach())

    def _sockets(self) -> tuple[int, ...]:
        """Descriptors in the order of launch.NetworkSockets; the two netlink ones are new."""
        with _in_network(self.network):
            netlink = [
                socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family).detach()
                for family in (_NETLINK_ROUTE, _NETLINK_NETFILTER)
            ]
        return (self.network, *netlink, *self.dns)

    def _listen(self) -> None:
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # By descriptor: the path itself may be longer than a socket address.
        self.listener.bind(f"/proc/self/fd/{self.exec_dir}/{SOCKET}")
        self.listener.listen(16)
        self.listener.setblocking(False)
        self.poller.watch(self.listener.fileno(), READABLE, lambda _: self.on_connect())

    def _record(self) -> None:
        record = {
            "container_id": self.container_id,
            "shim": os.getpid(),
            "shim_start": procfs.start_time(os.getpid()),
            "pid": self.pid,
            "pid_start": procfs.start_time(self.pid),
            "cgroup": self.cgroup.path,
        }
        write_document(self.exec_dir, RECORD, record, durable=False)

    def _identity(self) -> dict[str, object]:
        return {
            "container_id": self.container_id,
            "pid": self.pid,
            "shim": os.getpid(),
            "went": self.went,
            "started": self.started,
            "own_network": self.network >= 0,
            "dns": bool(self.dns),
            "exit": self.exit,
        }

    def _watch_oom(self) -> None:
        self.oom = self.cgroup.oom_fd()
        if self.oom >= 0:
            self.poller.watch(self.oom, READABLE, lambda _: self.on_oom())

    # --- the daemon's side ----------------------------------------------------------------

    def add_daemon(self, connection: socket.socket) -> None:
        daemon = Daemon(connection)
        self.daemons.append(daemon)
        self._watch_daemon(daemon)

    def _watch_daemon(self, daemon: Daemon) -> None:
        events = READABLE | (WRITABLE if daemon.queue else 0)
        self.poller.watch(daemon.descriptor, events, lambda found: self.on_daemon(daemon, found))

    def on_connect(self) -> None:
        assert self.listener is not None
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        _, uid, _ = struct.unpack(
            "=3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if uid not in (0, os.getuid()):
            connection.close()
            return
        self.add_daemon(connection)
        self.tell(self.daemons[-1], {"event": "hello", **self._identity()})

    def on_daemon(self, daemon: Daemon, events: int) -> None:
        if events & WRITABLE:
            self._flush(daemon)
        if events & ~WRITABLE and daemon in self.daemons:
            try:
                message = channel.receive(daemon.connection)
            except BlockingIOError:
                return
            if message is None:
                self.drop_daemon(daemon)
            else:
                self._answer(daemon, message)

    def drop_daemon(self, daemon: Daemon) -> None:
        self.daemons.remove(daemon)
        self.poller.forget(daemon.descriptor)
        daemon.close()
        if not self.daemons and not self.went and self.pid:
            # The start was never finished and nobody can finish it: nothing half-made stays.
            self.undo()

    def tell(
        self, daemon: Daemon, body: Mapping[str, object], descriptors: tuple[int, ...] = ()
    ) -> None:
        copies = tuple(fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 3) for one in descriptors)
        daemon.queue.append((channel.encode(dict(body)), copies))
        self._flush(daemon)

    def _flush(self, daemon: Daemon) -> None:
        try:
            while daemon.queue:
                body, descriptors = daemon.queue[0]
                channel.send_encoded(daemon.connection, body, descriptors)
                del daemon.queue[0]
                _close_all(descriptors)
        except BlockingIOError:
            if len(daemon.queue) > _MOST_QUEUED:
                self.drop_daemon(daemon)
                return
        except OSError:
            # It is gone; its end of file follows, or came just now.
            for _, descriptors in daemon.queue:
                _close_all(descriptors)
            daemon.queue.clear()
        self._watch_daemon(daemon)

    def broadcast(self, body: Mapping[str, object], descriptors: tuple[int, ...] = ()) -> None:
        for daemon in list(self.daemons):
            self.tell(daemon, body, descriptors)

    def _answer(self, daemon: Daemon, message: Message) -> None:
        number = message.body["id"]

        def reply(body: Mapping[str, object], descriptors: tuple[int, ...] = ()) -> None:
            if daemon in self.daemons:
                self.tell(daemon, {"id": number, **body}, descriptors)

        call = _CALLS.get(cast(str, message.body["call"]))
        try:
            if call is None:
                raise CannotStart(f"unknown call {message.body['call']!r}")
            call(self, message, reply)
        except CannotStart as error:
            reply({"error": str(error), "code": error.code}, ())
        except Exception as error:  # noqa: BLE001 - one request; the daemon hears of it
            reply({"error": str(error) or type(error).__name__, "code": 0}, ())
        finally:
            _close_all(message.descriptors)

    # --- calls ----------------------------------------------------------------------------

    def call_go(self, message: Message, reply: Reply) -> None:
        if self.starting is None or self.went:
            raise CannotStart("the container was started already")
        self.went = True
        self.go_reply = reply
        if self.starting.over:
            self._conclude_start()
            return
        with contextlib.suppress(BrokenPipeError):
            channel.send(self.starting.connection, {"go": True})

    def call_kill(self, message: Message, reply: Reply) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.pidfd, cast(int, message.body["signal"]))
        reply({}, ())

    def call_kill_all(self, message: Message, reply: Reply) -> None:
        self.cgroup.kill()
        reply({}, ())

    def call_freeze(self, message: Message, reply: Reply) -> None:
        self.cgroup.freeze(bool(message.body["frozen"]))
        reply({}, ())

    def call_resize(self, message: Message, reply: Reply) -> None:
        key = message.body.get("exec")
        stdio = self.stdio
        if key is not None:
            found = self.execs.get(cast(str, key))
            if found is None:
                raise CannotStart("the process has ended")
            stdio = found.stdio
        if stdio.terminal is not None:
            height, width = cast(int, message.body["height"]), cast(int, message.body["width"])
            process.set_window_size(stdio.terminal, height, width)
        reply({}, ())

    def call_attach(self, message: Message, reply: Reply) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        reply({}, (theirs.fileno(),))
        theirs.close()
        self.stdio.attach(ours, wants=_wanted(message.body), stdin=bool(message.body.get("stdin")))

    def call_sockets(self, message: Message, reply: Reply) -> None:
        if self.network < 0:
            raise CannotStart("the container has no network namespace of its own")
        descriptors = self._sockets()
        reply({}, descriptors)
        _close_all(descriptors[1:3])

    def call_exec(self, message: Message, reply: Reply) -> None:
        if self.status is not None or not self.started:
            raise CannotStart("the container is not running")
        request = json.loads(channel.read_document(os.dup(message.descriptors[0])))
        spec = cast("Mapping[str, object]", request["process"])
        terminal = bool(spec.get("terminal"))
        key = cast(str, request["key"])
        pipes = (
            None
            if terminal
            else _Pipes(
                stdin=bool(request["stdin"]),
                stdout=bool(request["stdout"]),
                stderr=bool(request["stderr"]),
            )
        )
        ours, theirs = channel.pair()
        joiner = join.start(
            lambda: sequence.exec_sequence(
                spec,
                container_id=self.container_id,
                user=request["user"],
                groups=tuple(request["groups"]),
                seccomp=bytes.fromhex(request["seccomp"]),
                last_capability=self.last_capability,
            ),
            Place(theirs, self.cgroup),
            pipes.theirs if pipes else None,
            container=self.pidfd,
            oom_score=cast(int, spec.get("oomScoreAdj") or 0),
        )
        theirs.close()
        stdio = Stdio(
            self.poller,
            log=None,
            close_input_after_client=True,
            when_drained=lambda: self._conclude_exec(entry, None),
        )
        entry = Exec(key, stdio, Starting(ours), joiner.pidfd)
        self.execs[key] = entry
        client = -1
        if request["stdin"] or request["stdout"] or request["stderr"]:
            mine, client = (one.detach() for one in socket.socketpair())
            stdio.attach(
                socket.socket(fileno=mine), wants=_wanted(request), stdin=bool(request["stdin"])
            )
        if pipes is not None:
            pipes.close_theirs()
            stdio.use_pipes(pipes.input, pipes.outputs)

        def turn(_: int) -> None:
            entry.starting.drain(lambda found: self._exec_says(entry, found))
            if entry.starting.over:
                self._exec_started(entry, client, reply)

        self.poller.watch(ours.fileno(), READABLE, turn)
        self.poller.watch(joiner.pidfd, READABLE, lambda _: self._reap_joiner(entry))

    def _exec_says(self, entry: Exec, message: Message) -> None:
        if message.body["state"] == "joined":
            entry.pid, entry.pidfd = cast(int, message.body["pid"]), message.descriptors[0]
            self.poller.watch(entry.pidfd, READABLE, lambda _: self._exec_exited(entry))
        elif message.body["state"] == "terminal":
            entry.stdio.use_terminal(message.descriptors[0])

    def _exec_started(self, entry: Exec, client: int, reply: Reply) -> None:
        connection = entry.starting.connection
        self.poller.forget(connection.fileno())
        connection.close()
        failure = entry.starting.failure
        if failure is not None:
            reply({"error": str(failure), "code": failure.code}, ())
        else:
            reply({"pid": entry.pid}, (client,) if client >= 0 else ())
            self._report_exec(entry)
        if client >= 0:
            os.close(client)
        if failure is not None and entry.pidfd < 0:
            self._forget_exec(entry)

    def _reap_joiner(self, entry: Exec) -> None:
        if process.reap(entry.joiner) is not None:
            self.poller.forget(entry.joiner)
            os.close(entry.joiner)

    def _exec_exited(self, entry: Exec) -> None:
        entry.ended = process.reap(entry.pidfd)
        if entry.ended is None:
            return
        self.poller.forget(entry.pidfd)
        os.close(entry.pidfd)
        entry.stdio.finish()

    def _conclude_exec(self, entry: Exec, _: object) -> None:
        if entry.starting.over:
            self._report_exec(entry)

    def _report_exec(self, entry: Exec) -> None:
        """Tell of its end, once it started and its output is read: before its stream ends, so
        that whoever sees the end of the stream can ask for the exit code."""
        if entry.ended is None or not entry.stdio.drained or entry.reported:
            return
        entry.reported = True
        if entry.starting.failure is None:
            code, number = entry.ended
            self.broadcast(
                {
                    "event": "exec_exited",
                    "exec": entry.key,
                    "code": code,
                    "signal": number,
                    "oom_killed": False,
                    "finished_at": time.time_ns(),
                }
            )
        self._forget_exec(entry)

    def _forget_exec(self, entry: Exec) -> None:
        self.execs.pop(entry.key, None)
        entry.stdio.close_clients()

    def call_release(self, message: Message, reply: Reply) -> None:
        if self.exit is None:
            raise CannotStart("the container still runs")
        self.released = True
        self.clean()
        reply({}, ())

    # --- the container's life -------------------------------------------------------------

    def on_starting(self) -> None:
        starting = self.starting
        assert starting is not None
        starting.drain(self._init_says)
        if not starting.over:
            return
        self.poller.forget(starting.connection.fileno())
        starting.connection.close()
        if self.go_reply is not None:
            self._conclude_start()

    def _init_says(self, message: Message) -> None:
        if message.body["state"] == "terminal":
            self.stdio.use_terminal(message.descriptors[0])

    def _conclude_start(self) -> None:
        """Answer `go`: the payload runs, or why it does not. Then nothing of it stays."""
        starting, reply = self.starting, self.go_reply
        assert starting is not None
        assert reply is not None
        self.go_reply = None
        if starting.failure is None:
            self.started = True
            reply({}, ())
            self.broadcast({"event": "started"})
            if self.status is not None:
                self._after_exit()
            return
        failure = starting.failure
        self.undo_before(
            lambda: reply({"error": str(failure), "code": failure.code, "over": True}, ())
        )

    def on_exit(self) -> None:
        self.status = process.reap(self.pidfd)
        if self.status is None:
            return
        self.poller.forget(self.pidfd)
        starting = self.starting
        assert starting is not None
        if not starting.over:
            self.on_starting()
        if self.started:
            self._after_exit()
        elif not self.went:
            # Ended before it began: nothing to record, but whoever ended it waits to hear so.
            self.exit = self._ending()
            self.broadcast({"event": "exited", **self.exit})

    def _ending(self) -> dict[str, object]:
        assert self.status is not None
        code, number = self.status
        return {
            "code": code,
            "signal": number,
            "oom_killed": code == 137 and self.cgroup.oom_kills() > 0,
            "finished_at": time.time_ns(),
        }

    def _after_exit(self) -> None:
        if self.exit is None and not self.stdio.ending:
            self.stdio.finish()

    def on_drained(self) -> None:
        """All output is in the log: now the end is recorded, then told."""
        self.exit = self._ending()
        try:
            write_document(self.exec_dir, EXIT, self.exit, durable=True)
        except OSError as error:
            # A full disk must not hide the end from a daemon that listens.
            self.complain(f"cannot write {EXIT}: {error}\n")
        self.broadcast({"event": "exited", **self.exit})
        self.stdio.close_clients()
        self._close_network()

    def on_oom(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.oom, 4096)
        if self.cgroup_made and self.cgroup.oom_kills() > 0:
            self.broadcast({"event": "oom"})

    # --- ending ---------------------------------------------------------------------------

    def _close_network(self) -> None:
        _close_all(self.dns)
        self.dns = ()
        if self.network >= 0:
            os.close(self.network)
            self.network = -1

    def clean(self) -> None:
        """Everything of the container that a kernel keeps goes: stray processes, mounts, cgroup."""
        self._close_network()
        if self.oom >= 0:
            self.poller.forget(self.oom)
            os.close(self.oom)
            self.oom = -1
        if self.cgroup_made:
            if self.cgroup.pids():
                self.cgroup.kill()
            self.cgroup.remove()
            self.cgroup_made = False
        if self.mounts >= 0:
            os.close(self.mounts)
            self.mounts = -1
        if self.listener is not None:
            self.poller.forget(self.listener.fileno())
            self.listener.close()
            self.listener = None
            for name in (SOCKET, RECORD):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=self.exec_dir)
        refuge.leave(self.cgroup.hierarchy)

    def undo_before(self, tell: Callable[[], None]) -> NoReturn:
        """End a start that failed: first clean up, then say so."""
        if self.pid and self.status is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.pidfd, signal.SIGKILL)
            select.select([self.pidfd], [], [])
            process.reap(self.pidfd)
        try:
            self.clean()
        finally:
            tell()
            os._exit(0)

    def undo(self) -> NoReturn:
        self.undo_before(lambda: None)

    def complain(self, text: str) -> None:
        """Write down what is wrong with this shim itself; the container's log is not for that."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with contextlib.suppress(OSError):
            own_log = os.open(LOG, flags, 0o600, dir_fd=self.exec_dir)
            os.write(own_log, text.encode())
            os.close(own_log)

    def serve(self) -> NoReturn:
        while True:
            self.poller.turn()
            if self.exit is not None and not self.stdio.has_clients:
                if self.released:
                    os._exit(0)
                if not self.daemons:
                    # exit.json tells the next daemon all there is to know.
                    self.clean()
                    os._exit(0)


_CALLS: Mapping[str, Callable[[Shim, Message, Reply], None]] = {
    "go": Shim.call_go,
    "kill": Shim.call_kill,
    "kill_all": Shim.call_kill_all,
    "freeze": Shim.call_freeze,
    "resize": Shim.call_resize,
    "attach": Shim.call_attach,
    "sockets": Shim.call_sockets,
    "exec": Shim.call_exec,
    "release": Shim.call_release,
}


class _Pipes:
    """Stdin, stdout and stderr of a process without a terminal; what is not wanted is null."""

    def __init__(self, *, stdin: bool, stdout: bool = True, stderr: bool = True) -> None:
        self.input = -1
        self.outputs: dict[int, int] = {}
        null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        theirs = [null, null, null]
        if stdin:
            theirs[0], self.input = os.pipe()
        for number, wanted in ((STDOUT, stdout), (STDERR, stderr)):
            if wanted:
                reading, theirs[number] = os.pipe()
                self.outputs[reading] = number
        self._opened = {null, *theirs}
        self.theirs = (theirs[0], theirs[1], theirs[2])

    def close_theirs(self) -> None:
        _close_all(tuple(self._opened))


def _wanted(body: Mapping[str, object]) -> frozenset[int]:
    return frozenset(
        number for number, name in ((STDOUT, "stdout"), (STDERR, "stderr")) if body.get(name)
    )


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@contextlib.contextmanager
def _in_network(namespace: int):  # type: ignore[no-untyped-def]
    """Sockets made inside belong to that network namespace."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(namespace, namespaces.CLONE_NEWNET)
        try:
            yield
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWNET)
    finally:
        os.close(home)


@contextlib.contextmanager
def _joined_pid(path: str):  # type: ignore[no-untyped-def]
    """Children made inside are in the PID namespace at `path`; "" changes nothing."""
    if not path:
        yield
        return
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    wanted = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(wanted, namespaces.CLONE_NEWPID, path=path)
        try:
            yield
        finally:
            namespaces.setns(home, namespaces.CLONE_NEWPID)
    finally:
        os.close(home)
        os.close(wanted)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("=16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def write_document(directory: int, name: str, document: object, *, durable: bool) -> None:
    """Replace `name` in an open directory, whole or not at all; `durable`: also over a crash."""
    temporary = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, json.dumps(document).encode())
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    if durable:
        os.fsync(directory)


def main(connection: socket.socket, document: int, hierarchy: Hierarchy) -> NoReturn:
    """In the fork of the spawner: be the shim of the container that `document` asks for."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        request = json.loads(channel.read_document(document))
        identifier = request["container_id"]
        privileges.set_name("pycompose-shim")
        procfs.set_command_line(f"pycompose-shim {identifier}")
        shim = Shim(connection, request, hierarchy)
        # Not the daemon's: whoever reads that waits for its end, which we outlive.
        for descriptor in (1, 2):
            os.dup2(0, descriptor)
    except BaseException as error:  # noqa: BLE001 - the end of this process
        _refuse(connection, error)
        os._exit(1)
    try:
        shim.launch()
    except BaseException as error:  # noqa: BLE001 - undone and told
        if not isinstance(error, _EXPECTED):
            shim.complain(traceback.format_exc())
        failed = error
        shim.undo_before(lambda: _refuse(connection, failed))
    try:
        shim.serve()
    except BaseException:  # noqa: BLE001 - its log is all that can be had
        shim.complain(traceback.format_exc())
    finally:
        os._exit(1)


def _refuse(connection: socket.socket, error: BaseException) -> None:
    text = str(error) or type(error).__name__
    if not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {error}"
    with contextlib.suppress(OSError):
        connection.setblocking(True)
        channel.send(connection, {"event": "failed", "error": text, "code": 128})
