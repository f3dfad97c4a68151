"""One container's keeper: holds its stdio, writes its log, reaps it, records its end.

Forked by the spawner, with what the maker made for it (`birth`), it outlives both, and the daemon.
That talks to it through the socket it was born with or, later, through `shim.sock` in the
container's exec directory. On disk there: `shim.json` names the cgroup, `shim.log` says what went
wrong with the shim itself. How the container ended is told to the daemon, which records it; where
none is connected, or its disk is full, it is written to `exit.json`. Then, if no daemon is
connected, the shim cleans up and goes.
"""

import contextlib
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from typing import NoReturn, cast

from engine.errors import EngineError
from engine.kernel import privileges, process, procfs
from engine.runtime import channel, daemons, newborn, refuge, visiting
from engine.runtime.birth import EXIT, Birth, unlink_files, unpack, write_document
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.channel import Message
from engine.runtime.clock import uptime
from engine.runtime.daemons import Daemon, Daemons
from engine.runtime.execs import Execs, Reply
from engine.runtime.log_relay import LogRelay
from engine.runtime.log_writer import LogWriter
from engine.runtime.orders import read_shims_part
from engine.runtime.poller import READABLE, Poller
from engine.runtime.starting import CannotStart, Starting
from engine.runtime.stdio import Pipes, Stdio, wanted

LOG = "shim.log"
_LOOKS = 20
_LOOK_AGAIN = 0.05  # seconds

# What may go wrong in a start without being a mistake of ours.
_EXPECTED = (OSError, CannotStart, EngineError)


FirstProcess = Callable[[Birth, socket.socket, Cgroup], NoReturn]


class Shim:
    """Of the container, or the spare, that `birth` was made for."""

    def __init__(self, birth: Birth, hierarchy: Hierarchy, first_process: FirstProcess) -> None:
        self.birth = birth
        self.first_process = first_process
        self.hierarchy = hierarchy
        self.poller = Poller()
        self.daemons = Daemons(self.poller, self._answer, self.on_left)
        self.daemons.add(socket.socket(fileno=birth.daemon))
        self.listener: socket.socket | None = socket.socket(fileno=birth.listener)
        self.execs: Execs | None = None
        self.pid = 0
        self.pidfd = -1
        self.starting: Starting | None = None
        self.launched = False
        self.started = False
        self.started_at = 0  # nanoseconds since 1970
        self.started_clock = 0  # of uptime()
        self.go_reply: Reply | None = None
        self.went = False
        self.status: tuple[int, int | None] | None = None
        self.exit: dict[str, object] | None = None
        self.recorded = False  # exit.json is there
        self.cleaned = False
        self.released = False
        self.mounts = -1
        self.network = birth.network
        self.netlink = _those_there(birth.route, birth.netfilter)
        self.dns = _those_there(birth.dns_udp, birth.dns_tcp)
        self.oom = birth.oom
        self.oom_kills = 0  # that were told
        self.stdio = Stdio(
            self.poller, log=None, close_input_after_client=False, when_drained=self.on_drained
        )

    # --- beginning ------------------------------------------------------------------------

    def be_born(self) -> None:
        """A first process that waits for its orders."""
        birth = self.birth
        ours, theirs = channel.pair()
        with visiting.joined_pid(birth.pid_namespace):
            child = process.clone3(birth.namespaces, cgroup=birth.group)
            if child.pid == 0:
                self.first_process(birth, theirs, self.cgroup())
        theirs.close()
        _close_all(
            _those_there(
                *(birth.group, birth.user, birth.files, birth.ipc, birth.uts, birth.world),
            )
        )
        self.pid, self.pidfd = child.pid, child.pidfd
        self.starting = Starting(ours)
        self.poller.watch(ours.fileno(), READABLE, lambda _: self.on_starting())
        self.poller.watch(self.pidfd, READABLE, lambda _: self.on_exit())
        self.poller.watch(birth.listener, READABLE, lambda _: self.on_connect())
        if self.oom >= 0:
            self.poller.watch(self.oom, READABLE, lambda _: self.on_oom())
        descriptors = self._sockets() if self.network >= 0 else ()
        self.daemons.broadcast({"event": "prepared", **self._identity()}, descriptors)
        _close_all(descriptors[1:3])

    def cgroup(self) -> Cgroup:
        return Cgroup(self.hierarchy, self.birth.cgroup)

    @property
    def is_spare(self) -> bool:
        """Still: nobody has said what it is to be."""
        return self.birth.is_spare and not self.launched

    def launch(self, orders: Mapping[str, object], document: int) -> None:
        starting = self.starting
        assert starting is not None
        pipes = None if orders["terminal"] else Pipes(stdin=bool(orders["open_stdin"]))
        try:
            beside = (document, *pipes.theirs) if pipes else (document,)
            channel.send(starting.connection, {"orders": True}, beside)
        except BrokenPipeError:
            if self.is_spare:
                self._be_unfit()  # it was killed while it waited: the daemon starts another
            # It may have said why.
            starting.drain(self._init_says)
            raise starting.failure or CannotStart("the process ended at once") from None
        self.launched = True
        log = cast("Mapping[str, object]", orders["log"])
        if log["path"]:
            self.stdio.log = self._open_log(log)
        self.stdio.close_input_after_client = bool(orders["stdin_once"])
        if pipes is not None:
            pipes.close_theirs()
            self.stdio.use_pipes(pipes.input, pipes.outputs)
        if not orders["dns"]:
            _close_all(self.dns)
            self.dns = ()

    def _be_unfit(self) -> NoReturn:
        starting = self.starting
        text = str((starting and starting.failure) or "its first process has ended")
        self.undo_before(lambda: self.daemons.broadcast({"event": "unfit", "error": text}))

    def _open_log(self, log: Mapping[str, object]) -> LogWriter | LogRelay:
        def writer() -> LogWriter:
            return LogWriter(
                cast(str, log["path"]),
                cast(int, log["max_size"]),
                cast(int, log["max_file"]),
                cast(str, log["attributes"]),
                compress=bool(log["compress"]),
            )

        limit = cast(int, log["buffer"])
        return LogRelay(self.poller, writer, limit) if limit else writer()

    def _sockets(self) -> tuple[int, ...]:
        """Descriptors in the order of launch.NetworkSockets; the two netlink ones are new."""
        netlink, self.netlink = self.netlink, ()
        if not netlink:
            with visiting.in_network(self.network):
                netlink = visiting.netlink_sockets()
        return (self.network, *netlink, *self.dns)

    def _identity(self) -> dict[str, object]:
        return {
            "container_id": self.birth.container_id,
            "pid": self.pid,
            "shim": os.getpid(),
            "went": self.went,
            "started": self.started,
            "started_at": self.started_at,
            "started_clock": self.started_clock,
            "own_network": self.network >= 0,
            "ids": self.birth.ids,
            "dns": bool(self.dns),
            "exit": self.exit,
        }

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

    def call_launch(self, message: Message, reply: Reply) -> None:
        document = message.descriptors[0]
        self.undertake(
            lambda: self.launch(read_shims_part(document), document),
            lambda refusal: reply({**refusal, "over": True}, ()),
        )
        reply({}, ())

    def undertake(
        self, beginning: Callable[[], None], refuse: Callable[[dict[str, object]], None]
    ) -> None:
        """Begin as a daemon asks, or tell it why not and end."""
        try:
            beginning()
        except BaseException as error:  # noqa: BLE001 - undone and told
            if not isinstance(error, _EXPECTED):
                complain(self.birth.exec_dir, traceback.format_exc())
            text, code = reason(error)
            self.undo_before(lambda: refuse({"error": text, "code": code}))

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
        self.cgroup().kill()
        reply({}, ())

    def call_freeze(self, message: Message, reply: Reply) -> None:
        self.cgroup().freeze(bool(message.body["frozen"]))
        reply({}, ())

    def call_resize(self, message: Message, reply: Reply) -> None:
        key = message.body.get("exec")
        try:
            terminal = (
                self.stdio.terminal if key is None else self.all_execs().terminal(cast(str, key))
            )
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
        if message.body.get("dns") and not self.dns:
            with visiting.in_network(self.network):
                self.dns = visiting.dns_sockets()
        descriptors = self._sockets()
        reply({}, descriptors)
        _close_all(descriptors[1:3])

    def call_exec(self, message: Message, reply: Reply) -> None:
        if self.status is not None or not self.started:
            raise CannotStart("the container is not running")
        self.all_execs().start(message.descriptors[0], self.pidfd, reply)

    def all_execs(self) -> Execs:
        if self.execs is None:
            cgroup, owner = self.cgroup(), self.birth.owner
            self.execs = Execs(self.poller, cgroup, self.daemons.broadcast, owner)
        return self.execs

    def call_release(self, message: Message, reply: Reply) -> None:
        if self.exit is None:
            raise CannotStart("the container still runs")
        if message.body.get("record"):
            self._record_exit()
        self.released = True
        self.clean()
        reply({}, ())

    # --- the container's life -------------------------------------------------------------

    def on_starting(self) -> None:
        starting = self.starting
        assert starting is not None
        starting.drain(self._init_says)
        if self.is_spare:
            # It ended, or could not even enter its cgroup.
            self._be_unfit()
        if not starting.over:
            return
        self.poller.forget(starting.connection.fileno())
        starting.connection.close()
        if self.go_reply is not None:
            self._conclude_start()

    def _init_says(self, message: Message) -> None:
        if message.body["state"] == "terminal":
            self.stdio.use_terminal(message.descriptors[0])
        elif message.body["state"] == "ready":
            # While the shim holds it, the end of the container does not wait for the overlay's
            # file system to be synced, which unmounting does.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self.mounts = os.open(f"/proc/{self.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def _conclude_start(self) -> None:
        """Answer `go`: the payload runs, or why it does not. Then nothing of it stays."""
        starting, reply = self.starting, self.go_reply
        assert starting is not None
        assert reply is not None
        self.go_reply = None
        if starting.failure is None:
            self.started = True
            self.started_at, self.started_clock = time.time_ns(), uptime()
            reply({"started_at": self.started_at, "started_clock": self.started_clock}, ())
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
        if self.is_spare:
            self.on_starting()
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
            "oom_killed": self.cgroup().oom_kills() > 0,  # whichever process it was
            "finished_at": time.time_ns(),
            "ran_for": uptime() - self.started_clock if self.started else 0,
        }

    def _after_exit(self) -> None:
        if self.exit is None and not self.stdio.ending:
            self.stdio.finish()

    def on_drained(self) -> None:
        """All output is in the log: now the end is told."""
        self.exit = self._ending()
        self.daemons.broadcast({"event": "exited", **self.exit})
        self.stdio.close_clients()
        self._close_network()

    def _record_exit(self) -> None:
        """For the next daemon."""
        assert self.exit is not None
        try:
            write_document(self.birth.exec_dir, EXIT, self.exit, durable=True)
            self.recorded = True
        except FileNotFoundError:
            self.recorded = True  # its folder is gone: nobody will ask
        except OSError as error:
            # A full disk must not hide the end: it is kept here.
            complain(self.birth.exec_dir, f"cannot write {EXIT}: {error}\n")

    def on_oom(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.oom, 4096)
        self._look_for_kills(_LOOKS)

    def _look_for_kills(self, looks: int) -> None:
        """cgroup v1 tells of a want of memory before the kernel chose whom to kill for it, and it
        need not kill anybody."""
        kills = self.cgroup().oom_kills() if not self.cleaned else 0
        if kills > self.oom_kills:
            self.oom_kills = kills
            self.daemons.broadcast({"event": "oom"})
        elif looks:
            self.poller.at("oom", _LOOK_AGAIN, lambda: self._look_for_kills(looks - 1))

    # --- ending ---------------------------------------------------------------------------

    def _close_network(self) -> None:
        _close_all(self.dns)
        self.dns = ()
        _close_all(self.netlink)
        self.netlink = ()
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
        if not self.cleaned:
            cgroup = self.cgroup()
            if cgroup.pids():
                cgroup.kill()
            cgroup.remove()
            self.cleaned = True
        if self.mounts >= 0:
            os.close(self.mounts)
            self.mounts = -1
        if self.listener is not None:
            self.poller.forget(self.listener.fileno())
            self.listener.close()
            self.listener = None
            unlink_files(self.birth.exec_dir)
        if self.is_spare:
            # For a start it is the daemon's.
            with contextlib.suppress(OSError):
                os.rmdir(self.birth.exec_path)
        refuge.leave(self.hierarchy, together=self.is_spare)

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

    def serve(self) -> NoReturn:
        while True:
            self.poller.turn()
            if self.exit is not None and not self.stdio.has_clients:
                if self.released:
                    os._exit(0)
                if not self.daemons:
                    self._record_exit()
                    if self.recorded:
                        self.clean()
                        os._exit(0)


_CALLS: Mapping[str, Callable[[Shim, Message, Reply], None]] = {
    "launch": Shim.call_launch,
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


def _those_there(*descriptors: int) -> tuple[int, ...]:
    return tuple([one for one in descriptors if one >= 0])


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def complain(exec_dir: int, text: str) -> None:
    """Write down what is wrong with this shim itself; the container's log is not for that."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        own_log = os.open(LOG, flags, 0o600, dir_fd=exec_dir)
        os.write(own_log, text.encode())
        os.close(own_log)


def main(message: bytes, beside: channel.Beside, hierarchy: Hierarchy) -> NoReturn:
    """In the fork of the spawner: be the shim that a message of the maker is for."""
    birth = unpack(message, channel.descriptors(beside))
    try:
        os.setsid()
        process.default_signal(signal.SIGCHLD)
        privileges.set_name("pycompose-shim")
        procfs.set_command_line(f"pycompose-shim {birth.container_id}")
        # Not the daemon's: whoever reads that waits for its end, which we outlive.
        for descriptor in (1, 2):
            os.dup2(0, descriptor)
        shim = Shim(birth, hierarchy, newborn.await_orders)
        shim.undertake(
            shim.be_born,
            lambda refusal: shim.daemons.broadcast({"event": "failed", **refusal}),
        )
        shim.serve()
    except BaseException:  # noqa: BLE001 - its log is all that can be had
        complain(birth.exec_dir, traceback.format_exc())
    finally:
        os._exit(1)


def reason(error: BaseException) -> tuple[str, int]:
    """Text and exit code for whoever asked."""
    text = str(error) or type(error).__name__
    if not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {error}"
    return text, error.code if isinstance(error, CannotStart) else 128
