"""One container's keeper: starts it, holds its stdio, writes its log, reaps it, records its end.

Forked by the spawner, it outlives both spawner and daemon. A daemon talks to it through the
socket it was launched with or, later, through `shim.sock` in the container's exec directory.
State on disk there: `shim.json` says who runs, `exit.json` how it ended, written before anybody is
told, `shim.log` what went wrong with the shim itself. When the container ended and no daemon is
connected, the shim cleans up and goes.
"""

import contextlib
import json
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, cast

from engine.errors import EngineError
from engine.kernel import privileges, process, procfs
from engine.oci.rootfs import Rootfs
from engine.runtime import channel, daemons, init, refuge, sequence, visiting
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.channel import Message
from engine.runtime.daemons import Daemon, Daemons
from engine.runtime.execs import Execs, Reply
from engine.runtime.log_writer import LogWriter
from engine.runtime.poller import READABLE, Poller
from engine.runtime.starting import CannotStart, Starting
from engine.runtime.stdio import Pipes, Stdio, wanted
from engine.runtime.steps import Place, Step

SOCKET = "shim.sock"
RECORD = "shim.json"
EXIT = "exit.json"
LOG = "shim.log"

# What may go wrong in a start without being a mistake of ours.
_EXPECTED = (OSError, CannotStart, sequence.SpecError, EngineError)


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
        self.daemons = Daemons(self.poller, self._answer, self.on_left)
        self.daemons.add(connection)
        self.listener: socket.socket | None = None
        self.execs = Execs(
            self.poller,
            self.cgroup,
            container_id=self.container_id,
            last_capability=self.last_capability,
            broadcast=self.daemons.broadcast,
        )
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
        pipes = None if terminal else Pipes(stdin=bool(self.request["open_stdin"]))
        with visiting.joined_pid(enclosure.pid):
            child = init.start(self._plan, place, pipes.theirs if pipes else None, enclosure.new)
        theirs.close()
        self.pid, self.pidfd = child.pid, child.pidfd
        if pipes is not None:
            pipes.close_theirs()
            self.stdio.use_pipes(pipes.input, pipes.outputs)
        self.starting = Starting(ours)
        self.poller.watch(ours.fileno(), READABLE, lambda _: self.on_starting())
        self.poller.watch(self.pidfd, READABLE, lambda _: self.on_exit())
        try:
            self._hold_namespaces()
        except (FileNotFoundError, ProcessLookupError):
            # It ended already, and has said why.
            self.starting.drain(self._init_says)
            raise self.starting.failure or CannotStart("the process ended at once") from None
        self._listen()
        self._record()
        descriptors = self._sockets() if self.network >= 0 else ()
        self.daemons.broadcast({"event": "launched", **self._identity()}, descriptors)
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
        with visiting.in_network(self.network):
            visiting.raise_loopback()
            if self.request["dns"]:
                self.dns = visiting.dns_sockets()

    def _sockets(self) -> tuple[int, ...]:
        """Descriptors in the order of launch.NetworkSockets; the two netlink ones are new."""
        with visiting.in_network(self.network):
            netlink = visiting.netlink_sockets()
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

    def on_connect(self) -> None:
        assert self.listener is not None
        try:
            connection, _ = self.listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if daemons.user_of(connection) in (0, os.getuid()):
            daemon = self.daemons.add(connection)
            self.daemons.tell(daemon, {"event": "hello", **self._identity()})
        else:
            connection.close()

    def on_left(self) -> None:
        if not self.went and self.pid:
            # The start was never finished and nobody can finish it: nothing half-made stays.
            self.undo()

    def _answer(self, daemon: Daemon, message: Message) -> None:
        number = message.body["id"]

        def reply(body: Mapping[str, object], descriptors: tuple[int, ...] = ()) -> None:
            if daemon in self.daemons:
                self.daemons.tell(daemon, {"id": number, **body}, descriptors)

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
        try:
            terminal = self.stdio.terminal if key is None else self.execs.terminal(cast(str, key))
        except KeyError:
            raise CannotStart("the process has ended") from None
        if terminal is not None:
            height, width = cast(int, message.body["height"]), cast(int, message.body["width"])
            process.set_window_size(terminal, height, width)
        reply({}, ())

    def call_attach(self, message: Message, reply: Reply) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        reply({}, (theirs.fileno(),))
        theirs.close()
        self.stdio.attach(ours, wants=wanted(message.body), stdin=bool(message.body.get("stdin")))

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
        self.execs.start(request, self.pidfd, reply)

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
            self.daemons.broadcast({"event": "started"})
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
            self.daemons.broadcast({"event": "exited", **self.exit})

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
        self.daemons.broadcast({"event": "exited", **self.exit})
        self.stdio.close_clients()
        self._close_network()

    def on_oom(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.oom, 4096)
        if self.cgroup_made and self.cgroup.oom_kills() > 0:
            self.daemons.broadcast({"event": "oom"})

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


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


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
        code = error.code if isinstance(error, CannotStart) else 128
        channel.send(connection, {"event": "failed", "error": text, "code": code})
