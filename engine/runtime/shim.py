"""One container's keeper: holds its stdio, writes its log, reaps it, records its end.

Forked by the spawner, with what the maker made for it (`birth`), it outlives both, and the daemon.
That talks to it through the socket it was born with or, later, through `shim.sock` in the
container's exec directory. On disk there: `shim.json` names the cgroup, `shim.log` says what went
wrong with the shim itself. How the container ended is told to the daemon, which records it; where
none is connected, or its disk is full, it is written to `exit.json`. Then, if no daemon is
connected, the shim cleans up and goes.

Until the container says something, ends, or a daemon wants something, it sleeps: see `sleeping`.
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

from engine.kernel import process
from engine.runtime import channel, daemons, refuge, visiting
from engine.runtime.birth import EXIT, Birth, unlink_files, unpack, write_document
from engine.runtime.cgroup_tree import Cgroup, Hierarchy
from engine.runtime.channel import Message, descriptors
from engine.runtime.clock import uptime
from engine.runtime.daemons import Daemon, Daemons
from engine.runtime.execs import Execs, Reply
from engine.runtime.log_relay import LogRelay
from engine.runtime.log_writer import LogWriter
from engine.runtime.newborn import await_orders
from engine.runtime.poller import READABLE, Poller
from engine.runtime.sleeping import Said, live
from engine.runtime.starting import CannotStart, Starting
from engine.runtime.stdio import STDERR, STDOUT, Stdio, wanted

LOG = "shim.log"
_LOOKS = 20
_LOOK_AGAIN = 0.05  # seconds

_NOT_STARTED = 128


class Shim:
    """Of the container, or the spare, that `birth` was made for."""

    def __init__(self, birth: Birth, hierarchy: Hierarchy) -> None:
        self.birth = birth
        self.hierarchy = hierarchy
        self.poller = Poller()
        self.daemons = Daemons(self.poller, self._answer, self.on_left)
        self.daemons.add(socket.socket(fileno=birth.daemon))
        self.listener: socket.socket | None = socket.socket(fileno=birth.listener)
        self.execs: Execs | None = None
        self.pid = 0
        self.pidfd = -1
        self.starting: Starting | None = None
        self.launched = False  # it was said what the first process is to become, for a start
        self.went = False  # it was told to become that
        self.started = False
        self.started_at = 0  # nanoseconds since 1970
        self.started_clock = 0  # of uptime()
        self.status: tuple[int, int | None] | None = None
        self.exit: dict[str, object] | None = None
        self.recorded = False  # exit.json is there
        self.cleaned = False
        self.released = False
        self.mounts = -1
        self.network = birth.network
        self.dns = _those_there(birth.dns_udp, birth.dns_tcp)
        self.oom = birth.oom
        self.oom_kills = 0  # that were told
        self.stdio = Stdio(
            self.poller, log=None, close_input_after_client=False, when_drained=self.on_drained
        )

    # --- beginning ------------------------------------------------------------------------

    def keep(self, pid: int, pidfd: int, said: Said, started_at: int, started_clock: int) -> None:
        """Be the one who hears of the first process from now on; see `sleeping`."""
        self.pid, self.pidfd = pid, pidfd
        starting = self.starting = Starting(socket.socket(fileno=self.birth.heard))
        for body, beside in said:
            starting.take(channel.message(body, beside), self._init_says)
        if started_at:
            starting.end()
            self._start_is_over()
            self.started = True
            self.started_at, self.started_clock = started_at, started_clock
        else:
            self.poller.watch(self.birth.heard, READABLE, lambda _: self.on_starting())
        self.poller.watch(self.pidfd, READABLE, lambda _: self.on_exit())
        self.poller.watch(self.birth.listener, READABLE, lambda _: self.on_connect())
        if self.oom >= 0:
            self.poller.watch(self.oom, READABLE, lambda _: self.on_oom())

    def cgroup(self) -> Cgroup:
        return Cgroup(self.hierarchy, self.birth.cgroup)

    @property
    def is_spare(self) -> bool:
        """Still: nobody has said what it is to be."""
        return self.birth.is_spare and not self.launched

    @property
    def is_tried(self) -> bool:
        """If it fails now, the container is not to blame yet: it can be started anew."""
        return (self.birth.is_spare or self.birth.is_scripted) and not self.launched

    def _launch(self, orders: Mapping[str, object], descriptors: tuple[int, ...]) -> None:
        self.launched = not orders["ahead"]
        self.stdio.close_input_after_client = bool(orders["stdin_once"])
        if descriptors:
            self.stdio.use_input(descriptors[0])
        if not orders["dns"]:
            _close_all(self.dns)
            self.dns = ()
        log = cast("Mapping[str, object]", orders["log"])
        if log["path"]:
            try:
                self.stdio.log = self._open_log(log)
            except OSError as error:
                # As of a full disk: it costs what would be recorded, not the container.
                complain(self.birth.exec_dir, f"cannot open the container's log: {error}\n")

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
            "scripts": True,  # may be of execs; older versions don't know them
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

    def on_left(self) -> None:
        if not self.started:
            self.on_starting()
        if not self.went:
            # The start was never finished and nobody can finish it: nothing half-made stays.
            self.undo_before(lambda: None)

    def _answer(self, daemon: Daemon, message: Message) -> None:
        number = message.body["id"]

        def reply(body: Mapping[str, object], descriptors: tuple[int, ...] = ()) -> None:
            if daemon in self.daemons:
                self.daemons.tell(daemon, {"id": number, **body}, descriptors)

        call = _CALLS.get(cast(str, message.body["call"]))
        # What its first process said before comes first.
        self.on_starting()
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
        self.all_execs().start(message, self.pidfd, reply)

    def all_execs(self) -> Execs:
        if self.execs is None:
            cgroup, owner = self.cgroup(), self.birth.owner
            self.execs = Execs(self.poller, cgroup, self.daemons.broadcast, owner)
        return self.execs

    def call_release(self, message: Message, reply: Reply) -> None:
        if self.status is None:
            self.on_exit()  # whoever asks may know of it already, see `sleeping`
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
        if starting.over:
            return
        starting.drain(self._init_says)
        if not starting.over:
            return
        if self.is_tried:
            self._be_unfit()
        failure = starting.failure
        if failure is not None:
            self.fail(failure)
        self._start_is_over()
        self.started = True
        self.started_at, self.started_clock = time.time_ns(), uptime()
        times = {"started_at": self.started_at, "started_clock": self.started_clock}
        self.daemons.broadcast({"event": "started", **times})
        if self.status is not None:
            self._after_exit()

    def _start_is_over(self) -> None:
        starting = self.starting
        assert starting is not None
        self.poller.forget(starting.connection.fileno())
        starting.connection.close()

    def _init_says(self, message: Message) -> None:
        match message.body["state"]:
            case "launched":
                self._launch(message.body, message.descriptors)
            case "stdio":
                stdout, stderr = message.descriptors
                self.stdio.use_outputs({stdout: STDOUT, stderr: STDERR})
            case "terminal":
                self.stdio.use_terminal(message.descriptors[0])
            case "mounts":
                (self.mounts,) = message.descriptors
            case "going":
                self.launched = self.went = True

    def on_exit(self) -> None:
        self.status = process.reap(self.pidfd)
        if self.status is None:
            return
        self.poller.forget(self.pidfd)
        if self.started:
            self._after_exit()
        else:
            self.on_starting()

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
            if not cgroup.remove_empty():
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

    def fail(self, error: BaseException) -> NoReturn:
        code = error.code if isinstance(error, CannotStart) else _NOT_STARTED
        event = {"event": "failed", "error": str(error) or type(error).__name__, "code": code}
        self.undo_before(lambda: self.daemons.broadcast(event))

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
    birth = unpack(message, descriptors(beside))
    try:
        try:
            # Not the daemon's streams: whoever reads them waits for its end, which we outlive.
            known = live(birth, hierarchy, await_orders, (1, 2))
        except OSError as error:
            Shim(birth, hierarchy).fail(error)
        shim = Shim(birth, hierarchy)
        shim.keep(*known)
        shim.serve()
    except BaseException:  # noqa: BLE001 - its log is all that can be had
        complain(birth.exec_dir, traceback.format_exc())
    finally:
        os._exit(1)
