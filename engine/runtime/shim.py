"""One container's keeper: starts it, holds its stdio, writes its log, reaps it, records its end.

Forked by the spawner, it outlives both spawner and daemon. A daemon talks to it through the
socket it was launched with or, later, through `shim.sock` in the container's exec directory.
State on disk there: `shim.json` says who runs, `shim.log` what went wrong with the shim itself. How
the container ended is told to the daemon, which records it; where none is connected, or its disk is
full, it is written to `exit.json`. Then, if no daemon is connected, the shim cleans up and goes.
"""

import contextlib
import gc
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
from engine.kernel.namespaces import CLONE_NEWNET, CLONE_NEWUSER
from engine.runtime import channel, daemons, init, reaper, refuge, user_namespace, visiting
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.channel import Message
from engine.runtime.clock import uptime
from engine.runtime.daemons import Daemon, Daemons
from engine.runtime.execs import Execs, Reply
from engine.runtime.id_maps import IdMaps
from engine.runtime.log_relay import LogRelay
from engine.runtime.log_writer import LogWriter
from engine.runtime.orders import read_shims_part, read_steps
from engine.runtime.poller import READABLE, Poller
from engine.runtime.rehearsal import rehearse, rehearse_world
from engine.runtime.starting import CannotStart, Starting
from engine.runtime.stdio import Pipes, Stdio, wanted
from engine.runtime.steps import Place

SOCKET = "shim.sock"
RECORD = "shim.json"
EXIT = "exit.json"
LOG = "shim.log"
_LOOKS = 20
_LOOK_AGAIN = 0.05  # seconds

# It doesn't grow with them; should it ever, not for ever.
_MOST_LIVES = 100

# What may go wrong in a start without being a mistake of ours.
_EXPECTED = (OSError, CannotStart, EngineError)


class Shim:
    """`orders` is the shim's part of them; with "spare" in it, that is what is known before a
    container is: where it would be."""

    def __init__(
        self, connection: socket.socket, orders: Mapping[str, object], hierarchy: Hierarchy
    ) -> None:
        self.poller = Poller()
        self.container_id = cast(str, orders["container_id"])
        self.exec_path = cast(str, orders["exec_dir"])
        self.exec_dir = -1
        self.cgroup = Cgroup(hierarchy, cast(str, orders["cgroup"]))
        self.cgroup_made = False
        self.daemons = Daemons(self.poller, self._answer, self.on_left)
        self.daemons.add(connection)
        self.listener: socket.socket | None = None
        self.execs = Execs(self.poller, self.cgroup, self.daemons.broadcast)
        self.ids: object = None  # the maps of the container's user namespace, if it has one
        self.pid = 0
        self.pidfd = -1
        self.starting: Starting | None = None
        self.is_spare = False
        self.started = False
        self.started_at = 0  # nanoseconds since 1970
        self.started_clock = 0  # of uptime()
        self.go_reply: Reply | None = None
        self.went = False
        self.status: tuple[int, int | None] | None = None
        self.exit: dict[str, object] | None = None
        self.recorded = False  # exit.json is there
        self.released = False
        self.may_renew = True  # this process may serve one more container
        self.renewal: Mapping[str, object] | None = None  # the spare that it is to become
        self.mounts = -1
        self.network = -1
        self.netlink: tuple[int, ...] = ()
        self.dns: tuple[int, ...] = ()
        self.oom = -1
        self.oom_kills = 0  # that were told
        self.stdio = Stdio(
            self.poller, log=None, close_input_after_client=False, when_drained=self.on_drained
        )

    # --- beginning ------------------------------------------------------------------------

    def prepare(self, orders: Mapping[str, object], *, is_new: bool = True) -> None:
        """All that can be done before it is known what is to run; a spare then waits for that."""
        self.is_spare = bool(orders["spare"])
        if self.is_spare:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.exec_path, 0o700)
        self._be_born(orders, warm_up=rehearse_world if self.is_spare else None)
        descriptors = self._sockets() if self.network >= 0 else ()
        self.daemons.broadcast({"event": "prepared", **self._identity()}, descriptors)
        _close_all(descriptors[1:3])
        if self.is_spare and is_new:  # else its pages are its own since long
            rehearse()

    def launch(self, orders: Mapping[str, object], document: int) -> None:
        if orders["resources"]:
            self.cgroup.update(cast("Mapping[str, object]", orders["resources"]))
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
        self.is_spare = False
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

    def _be_born(
        self, orders: Mapping[str, object], warm_up: Callable[[], None] | None = None
    ) -> None:
        """The cgroup and in it a first process that waits for its orders; what the kernel is to
        tell of it; its network namespace, if it has one of its own."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self.exec_dir = os.open(self.exec_path, flags)
        for name in (EXIT, RECORD, SOCKET):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.exec_dir)
        self.cgroup.create(cast("Mapping[str, object]", orders["resources"]))
        self.cgroup_made = True
        ours, theirs = channel.pair()
        place = Place(theirs, self.cgroup)
        namespaces = cast(int, orders["namespaces"])
        made = self._make_user(orders["ids"], namespaces, place)
        if made is not None:
            namespaces &= ~(CLONE_NEWUSER | sum(made.owned))
        with visiting.joined_pid(cast(str, orders["pid_namespace"])):
            joined = made.owned if made else init.NOTHING
            child = init.start(place, read_steps, namespaces, warm_up=warm_up, joined=joined)
        theirs.close()
        self.pid, self.pidfd = child.pid, child.pidfd
        self.starting = Starting(ours)
        self.poller.watch(ours.fileno(), READABLE, lambda _: self.on_starting())
        self.poller.watch(self.pidfd, READABLE, lambda _: self.on_exit())
        if orders["own_network"]:
            own = made.owned[CLONE_NEWNET] if made else -1
            self._hold_network(own, dns=bool(orders["dns"]))
        if made is not None:
            made.close()
        self._listen()
        self._record()
        self._watch_oom()

    def _make_user(self, ids: object, namespaces: int, place: Place) -> user_namespace.Made | None:
        if ids is None:
            return None
        found = cast("Mapping[str, list[object]]", ids)
        maps = IdMaps.parse(found["uidMappings"], found["gidMappings"])
        made = user_namespace.make(maps, namespaces)
        place.user, place.files, place.owner = made.user, made.files, maps.owner
        self.execs.owner = maps.owner
        self.ids = ids
        return made

    def _hold_network(self, own: int, *, dns: bool) -> None:
        """`own`: the namespace, where the first process joins it by itself."""
        path = f"/proc/{self.pid}/ns/net"
        self.network = os.dup(own) if own >= 0 else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with visiting.in_network(self.network):
            visiting.raise_loopback()
            if dns:
                self.dns = visiting.dns_sockets()
            self.netlink = visiting.netlink_sockets()

    def _sockets(self) -> tuple[int, ...]:
        """Descriptors in the order of launch.NetworkSockets; the two netlink ones are new."""
        netlink, self.netlink = self.netlink, ()
        if not netlink:
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
            "started_at": self.started_at,
            "started_clock": self.started_clock,
            "own_network": self.network >= 0,
            "ids": self.ids,
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
                self.complain(traceback.format_exc())
            text, code = reason(error)
            self.undo_before(lambda: refuse({"error": text, "code": code}))

    def begin(self, orders: Mapping[str, object], *, is_new: bool = True) -> None:
        self.undertake(
            lambda: self.prepare(orders, is_new=is_new),
            lambda refusal: self.daemons.broadcast({"event": "failed", **refusal}),
        )

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
        if message.body.get("dns") and not self.dns:
            with visiting.in_network(self.network):
                self.dns = visiting.dns_sockets()
        descriptors = self._sockets()
        reply({}, descriptors)
        _close_all(descriptors[1:3])

    def call_exec(self, message: Message, reply: Reply) -> None:
        if self.status is not None or not self.started:
            raise CannotStart("the container is not running")
        self.execs.start(message.descriptors[0], self.pidfd, reply)

    def call_release(self, message: Message, reply: Reply) -> None:
        if self.exit is None:
            raise CannotStart("the container still runs")
        if message.body.get("record"):
            self._record_exit()
        self.released = True
        renewal = cast("Mapping[str, object] | None", message.body.get("renew"))
        if renewal is not None and self._can_renew():
            self.clean(stays=True)
            reply({"renewed": True}, ())
            self.renewal = renewal
        else:
            self.clean()
            reply({}, ())

    def _can_renew(self) -> bool:
        is_idle = not self.stdio.has_clients and self.daemons.only() is not None
        return self.may_renew and self.started and self.ids is None and is_idle

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
            "oom_killed": self.cgroup.oom_kills() > 0,  # whichever process it was
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
            write_document(self.exec_dir, EXIT, self.exit, durable=True)
            self.recorded = True
        except FileNotFoundError:
            self.recorded = True  # its folder is gone: nobody will ask
        except OSError as error:
            # A full disk must not hide the end: it is kept here.
            self.complain(f"cannot write {EXIT}: {error}\n")

    def on_oom(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.oom, 4096)
        self._look_for_kills(_LOOKS)

    def _look_for_kills(self, looks: int) -> None:
        """cgroup v1 tells of a want of memory before the kernel chose whom to kill for it, and it
        need not kill anybody."""
        kills = self.cgroup.oom_kills() if self.cgroup_made else 0
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

    def clean(self, *, stays: bool = False) -> None:
        """Everything of the container that a kernel keeps goes: stray processes, mounts, cgroup.
        `stays`: this process goes on."""
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
        if self.is_spare:
            # For a start it is the daemon's.
            with contextlib.suppress(OSError):
                os.rmdir(self.exec_path)
        if not stays:
            refuge.leave(self.cgroup.hierarchy, together=self.is_spare)

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

    def serve(self) -> Mapping[str, object]:
        """Returns when this process is to become another spare, by these orders."""
        while True:
            self.poller.turn()
            if self.renewal is not None:
                return self.renewal
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


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def write_document(
    directory: int, name: str, document: Mapping[str, object], *, durable: bool
) -> None:
    """Replace `name` in an open directory, whole or not at all; `durable`: also over a crash."""
    temporary = f".{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        os.write(descriptor, channel.encode(document))
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    if durable:
        os.fsync(directory)


def main(connection: socket.socket, document: int, hierarchy: Hierarchy) -> NoReturn:
    """In the fork of the spawner: be the shim of the container that `document` asks for, or of
    one that may come; and then of others. A new process would fault in all its pages again."""
    shim = _begin(connection, document, hierarchy)
    os.close(document)
    lives = 1
    while True:
        shim.may_renew = lives < _MOST_LIVES
        orders = _served(shim)
        connection = _left_over(shim)
        del shim
        gc.collect()  # a descriptor is closed by its object now, or would be when it is another's
        process.close_all_but(connection.fileno(), reaper.DESCRIPTOR)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        shim = _renewed(connection, orders, hierarchy)
        lives += 1


def _served(shim: Shim) -> Mapping[str, object]:
    try:
        return shim.serve()
    except BaseException:  # noqa: BLE001 - its log is all that can be had
        shim.complain(traceback.format_exc())
        os._exit(1)


def _left_over(shim: Shim) -> socket.socket:
    connection = shim.daemons.only()
    if connection is None:
        os._exit(0)
    return connection


def _renewed(connection: socket.socket, orders: Mapping[str, object], hierarchy: Hierarchy) -> Shim:
    procfs.set_command_line(f"pycompose-shim {orders['container_id']}")
    shim = Shim(connection, orders, hierarchy)
    shim.begin(orders, is_new=False)
    return shim


def _begin(connection: socket.socket, document: int, hierarchy: Hierarchy) -> Shim:
    try:
        os.setsid()
        process.default_signal(signal.SIGCHLD)
        orders = read_shims_part(document)
        identifier = orders["container_id"]
        privileges.set_name("pycompose-shim")
        procfs.set_command_line(f"pycompose-shim {identifier}")
        shim = Shim(connection, orders, hierarchy)
        # Not the daemon's: whoever reads that waits for its end, which we outlive.
        for descriptor in (1, 2):
            os.dup2(0, descriptor)
    except BaseException as error:  # noqa: BLE001 - the end of this process
        text, code = reason(error)
        with contextlib.suppress(OSError):
            connection.setblocking(True)
            channel.send(connection, {"event": "failed", "error": text, "code": code})
        os._exit(1)
    shim.begin(orders)
    return shim


def reason(error: BaseException) -> tuple[str, int]:
    """Text and exit code for whoever asked."""
    text = str(error) or type(error).__name__
    if not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {error}"
    return text, error.code if isinstance(error, CannotStart) else 128
