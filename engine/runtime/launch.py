"""The daemon's side of the runtime: start the spawner, launch containers, talk to their shims."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from engine.errors import Failure
from engine.kernel import privileges
from engine.oci.rootfs import Rootfs
from engine.runtime import birth, channel, init, interpreter, orders, remains, sequence, world
from engine.runtime.clock import uptime
from engine.runtime.files import File, replacing
from engine.runtime.id_maps import IdMaps
from engine.runtime.payload import NO_USER
from engine.runtime.remains import ExitStatus, exit_status, read_exit
from engine.runtime.spares import Mould, Spares
from engine.runtime.steps import LimitResources, Step

__all__ = [
    "ExecProcess",
    "ExecRequest",
    "ExitStatus",
    "LaunchRequest",
    "LogTarget",
    "Lost",
    "NetworkSockets",
    "Shim",
    "Spawner",
    "StartFailed",
    "read_exit",
]

log = logging.getLogger(__name__)

_KILLED = 137
_NOT_STARTED = 128


class StartFailed(Failure):
    """A container or exec whose process can't be started. `exit_code` is what clients report:
    127 not found, 126 not executable, 128 the rest; NO_USER is the engine's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Lost(Failure):
    """The shim is gone and so is what it kept."""


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where the shim writes the container's log, and how."""

    path: str  # "" = no log
    max_size: int  # bytes, 0 = unlimited
    max_file: int  # at least 1; older ones are path.1, path.2, …
    attributes: str = ""  # `"attrs":{…},` for each record
    compress: bool = False  # older ones are path.1.gz, path.2.gz, …
    buffer: int = (
        0  # bytes that wait for a slow disk before records are lost; 0 = the process waits
    )


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    container_id: str
    spec: Mapping[str, object]  # an OCI runtime spec without linux.seccomp
    seccomp: bytes  # compiled BPF, b"" = unconfined
    user: str  # "", name, uid, each with :group or :gid; found in the container's own files
    groups: tuple[str, ...]
    rootfs: Rootfs
    exec_dir: str  # exists, 0700
    log: LogTarget
    open_stdin: bool
    stdin_once: bool
    init: bool
    own_network: bool  # a network namespace of its own was asked for
    dns: bool  # bind sockets for DNS in it
    files: tuple[File, ...] = ()  # with contents that are in this container alone


@dataclass(frozen=True, slots=True)
class ExecRequest:
    process: Mapping[str, object]  # the OCI process object
    user: str
    groups: tuple[str, ...]
    seccomp: bytes
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool


@dataclass(frozen=True, slots=True)
class NetworkSockets:
    """Made inside the container's network namespace; the receiver closes them."""

    namespace: int
    route: int
    netfilter: int
    dns_udp: int  # -1 without DNS
    dns_tcp: int

    def close(self) -> None:
        found = (self.namespace, self.route, self.netfilter, self.dns_udp, self.dns_tcp)
        _close_all([descriptor for descriptor in found if descriptor >= 0])

    def without_dns(self) -> "NetworkSockets":
        """Of a container that asks nobody here."""
        _close_all([descriptor for descriptor in (self.dns_udp, self.dns_tcp) if descriptor >= 0])
        return NetworkSockets(self.namespace, self.route, self.netfilter, -1, -1)


# --- the spawner ------------------------------------------------------------------------------


class Spawner:
    """Forks shims. One a daemon; it is started again when it died."""

    def __init__(self, interpreter: int, last_capability: int) -> None:
        self._interpreter = interpreter
        self._last_capability = last_capability
        self._connection: socket.socket | None = None
        self._pid = 0
        self._builds_worlds = False
        self._after_crash: dict[str, object] | None = None
        self._lock = asyncio.Lock()
        self._spares = Spares(self._fork)

    @classmethod
    async def start(cls) -> "Spawner":
        spawner = cls(interpreter.sealed_copy(), privileges.last_capability())
        try:
            async with spawner._lock:
                await spawner._spawn()
        except BaseException:
            os.close(spawner._interpreter)
            raise
        return spawner

    @property
    def pid(self) -> int:
        return self._pid

    def take_id(self) -> str:
        """The id for a container that is about to be made and started soon: a start by the id
        of a spare is shorter. "" if there is no spare now."""
        return self._spares.take_id()

    async def run_after_crash(self, argv: Sequence[str]) -> None:
        """Should this process end without `close`, the command is run as it was itself: in this
        folder, with this environment and output."""
        self._after_crash = {
            "argv": list(argv), "folder": os.getcwd(), "environment": dict(os.environ),
        }  # fmt: skip
        async with self._lock:
            await self._tell_after_crash()

    async def _tell_after_crash(self) -> None:
        if self._connection is not None and self._after_crash is not None:
            message = channel.encode({channel.AFTER_CRASH: self._after_crash})
            await _when_writable(self._connection, message, ())

    async def prepare(self, request: LaunchRequest) -> "Shim":
        """The shim of a container whose namespaces and cgroup exist; `launch` is the next call.
        Raises StartFailed."""
        with _explained():
            asked = _birth(request)
        spare = await self._spares.take(asked)
        try:
            if spare is not None:
                handle = Shim(spare.connection, spare.id, spare.exec_dir, first=spare.first)
                handle.is_spare, handle.mould, handle.world = True, spare.mould, spare.mould.world
                for message in spare.said:
                    handle._take(message)
                try:
                    await handle._greeted()
                except Lost:
                    await remains.clear(spare.exec_dir)
                else:
                    if handle.sockets is not None and not request.dns:
                        handle.sockets = handle.sockets.without_dns()
                    return handle
            os.makedirs(request.exec_dir, 0o700, exist_ok=True)
            handle = await self._prepare_anew(request, asked)
            handle.mould = Mould.of(asked)
            return handle
        finally:
            self._spares.replenish()

    async def give_up(self, container_id: str) -> None:
        """What waits for this container to be started is gone on return."""
        await self._spares.give_up(container_id)

    async def launch(self, shim: "Shim", request: LaunchRequest) -> None:
        """Returns when the first process has its orders, and waits for `go`. Raises StartFailed,
        and Lost where what was prepared is gone: nothing is left of it then."""
        with _explained():
            walked = self._steps(request)
        parts = world.apart(walked) if self._builds_worlds else None
        if shim.mould is not None:
            self._spares.learn(shim.mould, parts.world if parts is not None else ())
        if shim.world:
            if parts is not None and parts.world == shim.world:
                walked = parts.rest
            elif not world.is_harmless(shim.world, walked):
                await shim.abandon()
                raise Lost("it was prepared for another kind of container")
        if shim.is_spare and (left := _left_limits(request)):
            walked = (LimitResources(left), *walked)
        document = orders.write(_launch_orders(request), walked)
        try:
            await shim._launch(document)
        except Lost:
            await remains.clear(request.exec_dir)
            raise
        finally:
            os.close(document)

    async def _prepare_anew(self, request: LaunchRequest, asked: Mapping[str, object]) -> "Shim":
        for attempt in (1, 2):
            connection, first = await self._fork(asked, ())
            handle = Shim(connection, request.container_id, request.exec_dir, first=first)
            try:
                await handle._greeted()
                handle.ids = _id_maps(asked)
                return handle
            except Lost:
                # The spawner died before it had a shim.
                await remains.clear(request.exec_dir)
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """The spawner goes; shims and containers stay."""
        await self._spares.close()
        async with self._lock:
            self._end()
            os.close(self._interpreter)

    async def _fork(
        self, shims_part: Mapping[str, object], building: Sequence[Step]
    ) -> tuple[socket.socket, socket.socket]:
        """A shim that does its part of the orders, while its first process builds what it will
        need: connections to the two."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as after:
            document = orders.write(shims_part, building)
            after.callback(os.close, document)
            ours = []
            theirs = []
            for _ in range(2):
                one, other = channel.pair()
                one.setblocking(False)
                ours.append(undo.enter_context(one))
                theirs.append(after.enter_context(other).fileno())
            await self._send((document, *theirs))
            undo.pop_all()
            return ours[0], ours[1]

    async def _send(self, descriptors: tuple[int, ...]) -> None:
        async with self._lock:
            for _ in range(2):
                if self._connection is None:
                    await self._spawn()
                assert self._connection is not None
                try:
                    await _when_writable(
                        self._connection, channel.encode({"launch": True}), descriptors
                    )
                    return
                except OSError as error:
                    log.warning("the spawner %d is gone (%s): starting another", self._pid, error)
                    self._end()
        raise Failure("cannot start a container: the spawner ends again and again")

    async def _spawn(self) -> None:
        ours, theirs = channel.pair()
        try:
            os.set_inheritable(theirs.fileno(), True)
            self._pid = os.posix_spawn(
                f"/proc/self/fd/{self._interpreter}",
                interpreter.command(),
                interpreter.environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                    (os.POSIX_SPAWN_DUP2, 2, 1),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                ],
                setsid=True,
                setsigmask=(),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setblocking(False)
        self._connection = ours
        ready = await _receive(ours)
        if ready is not None:
            self._builds_worlds = bool(ready.body["worlds"])
        else:
            code = self._end()  # below zero: the signal
            program = sys._base_executable  # type: ignore[attr-defined]
            raise Failure(f"cannot start {program}: it ended at once, with code {code}")
        # It says no more: what can be read from now on is its end.
        asyncio.get_running_loop().add_reader(ours.fileno(), self._end)
        await self._tell_after_crash()

    def _end(self) -> int:
        """The code that it ended with, if it had ended."""
        code = 0
        connection, self._connection = self._connection, None
        if connection is not None:
            asyncio.get_running_loop().remove_reader(connection.fileno())
            with contextlib.suppress(OSError):  # it is gone already
                channel.send(connection, {channel.AFTER_CRASH: None})
            connection.close()
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
            self._pid = 0
        return code

    def _steps(self, request: LaunchRequest) -> Sequence[Step]:
        walked = sequence.container_sequence(
            request.spec,
            container_id=request.container_id,
            rootfs=request.rootfs,
            hook=request.exec_dir,
            user=request.user,
            groups=request.groups,
            seccomp=request.seccomp,
            last_capability=self._last_capability,
            placed=request.files,
        )
        return init.with_reaper(walked) if request.init else walked


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sequence.SpecError as error:
        raise StartFailed(_start_text(str(error), _NOT_STARTED), _NOT_STARTED) from error


def _birth(request: LaunchRequest) -> dict[str, object]:
    """What a shim has to know before it has a container."""
    linux = cast("Mapping[str, object]", request.spec.get("linux") or {})
    enclosure = sequence.enclosure(request.spec)
    return {
        "spare": False,
        "container_id": request.container_id,
        "exec_dir": request.exec_dir,
        "cgroup": linux["cgroupsPath"],
        "resources": linux.get("resources") or {},
        "namespaces": enclosure.new,
        "pid_namespace": enclosure.pid,
        "ids": enclosure.ids.to_oci() if enclosure.ids else None,
        "user_namespace": enclosure.user,
        "own_network": request.own_network,
        "dns": request.dns,
    }


def _left_limits(request: LaunchRequest) -> dict[str, object]:
    """A spare was born with its device rules, and no other limits."""
    linux = cast("Mapping[str, object]", request.spec.get("linux") or {})
    resources = cast("Mapping[str, object]", linux.get("resources") or {})
    return {key: value for key, value in resources.items() if key != "devices"}


def _launch_orders(request: LaunchRequest) -> dict[str, object]:
    """What it has to know then."""
    process = cast("Mapping[str, object]", request.spec.get("process") or {})
    return {
        "dns": request.dns,
        "log": asdict(request.log),
        "terminal": bool(process.get("terminal")),
        "open_stdin": request.open_stdin,
        "stdin_once": request.stdin_once,
    }


# --- a shim -----------------------------------------------------------------------------------


class Shim:
    """The daemon's handle on one container's shim."""

    def __init__(
        self,
        connection: socket.socket,
        container_id: str,
        exec_dir: str,
        *,
        first: socket.socket | None = None,
    ) -> None:
        """`first`: to the first process, until that is what it will be."""
        loop = asyncio.get_running_loop()
        self.container_id = container_id
        self.pid = 0
        self.shim_pid = 0
        self.ids: IdMaps | None = None  # of its user namespace, if it has one
        self.is_spare = False  # it waited for its container
        self.mould: Mould | None = None  # of such spares as would do for it
        self.world: tuple[Step, ...] = ()  # that it has built while it waited
        self.started = False  # whether `go` was answered, by this or an earlier daemon
        self.started_at = 0  # nanoseconds since 1970
        self.started_clock = 0  # of uptime()
        self.sockets: NetworkSockets | None = None
        self.exited: asyncio.Future[ExitStatus] = loop.create_future()
        self.when_out_of_memory: Callable[[], None] = lambda: None
        self._exec_dir = exec_dir
        self._connection = connection
        self._first = first
        self._greeting: asyncio.Future[channel.Message] = loop.create_future()
        self._replies: dict[int, asyncio.Future[channel.Message]] = {}
        self._execs: dict[str, ExecProcess] = {}
        self._launched: asyncio.Future[bool] = loop.create_future()
        self._beginning: asyncio.Future[None] = loop.create_future()
        self._went = False
        self._number = 0
        self._failure: StartFailed | None = None  # of its start
        self._closed = False
        self._released = False
        connection.setblocking(False)
        loop.add_reader(connection.fileno(), self._on_readable)
        if first is not None:
            loop.add_reader(first.fileno(), self._on_launched)

    @classmethod
    async def adopt(cls, exec_dir: str) -> "Shim | ExitStatus | None":
        """What became of a container while no daemon was there: it runs (or its end was just
        told), it ended, or its shim was killed: then what was left of it is killed too."""
        try:
            folder = os.open(exec_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.connect(f"/proc/self/fd/{folder}/{birth.SOCKET}")
        except OSError as error:
            connection.close()
            if not isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
                raise
        else:
            handle = cls(connection, "", exec_dir)
            try:
                await handle._greeted()
                if await handle._did_start():
                    return handle
            except (Lost, StartFailed):
                handle._close()  # it ended while we were talking: its record says how
        finally:
            os.close(folder)
        recorded = read_exit(exec_dir)
        await remains.clear(exec_dir)
        return recorded

    async def go(self) -> None:
        """The network is ready: execute the payload. Raises StartFailed; then nothing stays."""
        await self._order({"go": True})
        await self._beginning

    async def _launch(self, document: int) -> None:
        """Raises StartFailed, and Lost if the shim ended."""
        await self._order({"orders": True}, (document,))
        if not await self._launched:
            await self._beginning  # raises why

    async def _order(self, body: Mapping[str, object], descriptors: tuple[int, ...] = ()) -> None:
        """Tell the first process; if it is no more, the shim says why."""
        if self._first is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await _when_writable(self._first, channel.encode(body), descriptors)

    def _began(self, body: Mapping[str, object]) -> None:
        self.started = True
        self.started_at = cast(int, body.get("started_at", 0))
        self.started_clock = cast(int, body.get("started_clock", 0))

    async def kill(self, number: int) -> None:
        """A signal to the container's first process."""
        await self._call("kill", signal=number)

    async def kill_all(self) -> None:
        """SIGKILL to every process of the container."""
        await self._call("kill_all")

    async def abandon(self) -> None:
        """Ends a container that is not to go on, and clears it away."""
        try:
            await self.kill_all()
        except (Lost, StartFailed):
            return  # a start that was refused has cleared itself away
        await self.exited
        await self.release()

    async def pause(self) -> None:
        await self._call("freeze", frozen=True)

    async def resume(self) -> None:
        await self._call("freeze", frozen=False)

    async def resize(self, height: int, width: int) -> None:
        await self._call("resize", height=height, width=width)

    async def attach(
        self, *, stdin: bool, stdout: bool, stderr: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The container's streams from now on, framed (raw for a terminal). `write_eof` ends
        its input if it asked for that."""
        message = await self._call("attach", stdin=stdin, stdout=stdout, stderr=stderr)
        return await _open_stream(message.descriptors[0])

    async def exec(self, request: ExecRequest) -> "ExecProcess":
        """Run another process inside. Raises StartFailed."""
        try:
            walked = sequence.exec_sequence(
                request.process,
                container_id=self.container_id,
                user=request.user,
                groups=request.groups,
                seccomp=request.seccomp,
                last_capability=privileges.last_capability(),
                in_user_namespace=self.ids is not None,
            )
        except sequence.SpecError as error:
            raise StartFailed(_exec_text(str(error), _NOT_STARTED), _NOT_STARTED) from error
        shims_part = {
            "terminal": bool(request.process.get("terminal")),
            "oom_score": request.process.get("oomScoreAdj") or 0,
            "apparmor": request.process.get("apparmorProfile") or "",
            "stdin": request.attach_stdin,
            "stdout": request.attach_stdout,
            "stderr": request.attach_stderr,
        }
        try:
            return await self._start_inside(shims_part, walked)
        except StartFailed as error:
            raise StartFailed(_exec_text(str(error), error.exit_code), error.exit_code) from None

    async def replace_files(self, files: Sequence[File]) -> None:
        """New contents for files that it was launched with. Raises StartFailed."""
        shims_part = {
            **dict.fromkeys(("terminal", "stdin", "stdout", "stderr"), False),
            "oom_score": 0,
        }
        process = await self._start_inside(shims_part, replacing(files, self.ids))
        await process.exited

    async def _start_inside(
        self, shims_part: Mapping[str, object], walked: Sequence[Step]
    ) -> "ExecProcess":
        self._number += 1
        key = f"{os.getpid()}-{time.monotonic_ns()}-{self._number}"
        document = orders.write({**shims_part, "key": key}, walked)
        handle = ExecProcess(self, key)
        self._execs[key] = handle
        try:
            message = await self._call("exec", descriptors=(document,))
        except BaseException:
            self._execs.pop(key, None)
            raise
        finally:
            os.close(document)
        handle.pid = cast(int, message.body["pid"])
        if message.descriptors:
            handle.reader, handle.writer = await _open_stream(message.descriptors[0])
        return handle

    async def network_sockets(self, *, dns: bool = False) -> NetworkSockets:
        """New descriptors for the container's network namespace; the caller closes them. `dns`:
        those for DNS are made, if it was started without."""
        return _sockets((await self._call("sockets", dns=dns)).descriptors)

    async def release(self, *, record: bool = False) -> None:
        """After the exit was recorded, or with `record` to have it recorded in the container's
        exec directory: root file system, cgroup and shim are gone on return."""
        if self._closed:
            await remains.clear(self._exec_dir)
            return
        self._released = True
        try:
            await self._call("release", record=record)
        except Lost:
            await remains.clear(self._exec_dir)
        self._close()

    def disconnect(self) -> None:
        """Let go of the shim; it and the container go on. For a daemon that stops."""
        self._released = True
        self._close()

    # --- talking --------------------------------------------------------------------------

    async def _greeted(self) -> "Shim":
        """This very handle. It is closed if this raises StartFailed or Lost."""
        try:
            body = (await self._greeting).body
            if body["event"] == "failed":
                self._fail(body)
                await self._beginning
        except BaseException:
            if self.sockets is not None:
                self.sockets.close()
                self.sockets = None
            self._close()
            raise
        self.pid, self.shim_pid = cast(int, body["pid"]), cast(int, body["shim"])
        if body["event"] == "prepared":
            return self
        self.container_id = cast(str, body["container_id"])
        # Shims outlive their daemon, also one that is replaced by a newer version: what came later
        # isn't in what an older one says.
        self.ids = _id_maps(body)
        self.started, self._went = bool(body["started"]), bool(body["went"])
        if self.started:
            self._began(body)
        if body["exit"] is not None:
            self._set_exit(cast("Mapping[str, object]", body["exit"]))
        return self

    async def _did_start(self) -> bool:
        """Whether the payload runs or ran. A start that a dead daemon left half-way is undone."""
        if self._went:
            if not self.started:
                await self._beginning
            return True
        await self.kill_all()
        await self.exited
        await self.release()
        return False

    async def _call(
        self, call: str, *, descriptors: tuple[int, ...] = (), **arguments: object
    ) -> channel.Message:
        if self._closed:
            raise self._failure or Lost("the container's shim is gone")
        self._number += 1
        number = self._number
        reply: asyncio.Future[channel.Message] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            await self._send({"id": number, "call": call, **arguments}, descriptors)
            message = await reply
        except asyncio.CancelledError:
            if (came := _result(reply)) is not None:
                _close_all(came.descriptors)  # nobody takes them any more
            raise
        finally:
            self._replies.pop(number, None)
        if "error" in message.body:
            text, code = cast(str, message.body["error"]), cast(int, message.body["code"])
            raise StartFailed(text, code) if code else Failure(text)
        return message

    async def _send(self, body: dict[str, object], descriptors: tuple[int, ...]) -> None:
        try:
            await _when_writable(self._connection, channel.encode(body), descriptors)
        except OSError as error:
            self._on_readable()  # its last words
            raise self._failure or Lost(f"the container's shim is gone: {error}") from None

    def _on_readable(self) -> None:
        # All that is there: an exit must be known before the end of a stream is.
        while not self._closed:
            try:
                message = channel.receive(self._connection)
            except BlockingIOError:
                return
            except OSError:
                message = None
            if message is None:
                self._lost()
                return
            self._take(message)

    def _take(self, message: channel.Message) -> None:
        match message.body.get("event"):
            case None:
                if message.body.get("over"):
                    self._released = True  # it ends now, and has nothing more to tell
                reply = self._replies.get(cast(int, message.body["id"]))
                if reply is not None and not reply.done():
                    reply.set_result(message)
                else:
                    _close_all(message.descriptors)  # whoever asked was cancelled
            case "exited":
                self._set_exit(message.body)
            case "exec_exited":
                handle = self._execs.pop(cast(str, message.body["exec"]), None)
                if handle is not None and not handle.exited.done():
                    handle.exited.set_result(exit_status(message.body))
            case "connected":
                self.sockets = _sockets(message.descriptors)
            case "started":
                self._let_go_of_first()
                self._began(message.body)
                if not self._beginning.done():
                    self._beginning.set_result(None)
            case "failed" if self._greeting.done():
                self._fail(message.body)
            case "oom":
                self.when_out_of_memory()
            case "unfit":
                log.warning("what was prepared is gone: %s", message.body["error"])
                self._released = True
                self._set_killed()
            case _:
                if not self._greeting.done():
                    self._greeting.set_result(message)

    def _fail(self, body: Mapping[str, object]) -> None:
        """Nothing is left of it, nor will be of its shim."""
        self._released = True
        text, code = cast(str, body["error"]), cast(int, body["code"])
        self._failure = StartFailed(_start_text(text, code), code)
        self._refuse_all(self._failure)
        self._set_killed()
        self._close()

    def _on_launched(self) -> None:
        """The first process has its orders, or is no more."""
        assert self._first is not None
        try:
            launched = channel.receive(self._first) is not None
        except OSError:
            launched = False
        if launched:
            asyncio.get_running_loop().remove_reader(self._first.fileno())
            self._launched.set_result(True)
        else:
            self._let_go_of_first()

    def _refuse_all(self, error: Exception) -> None:
        waiting: list[asyncio.Future[Any]]
        waiting = [self._greeting, self._beginning, *self._replies.values()]
        for one in waiting:
            if not one.done():
                one.set_exception(error)
                one.exception()  # nobody need be waiting

    def _let_go_of_first(self) -> None:
        if self._first is not None:
            asyncio.get_running_loop().remove_reader(self._first.fileno())
            self._first.close()
            self._first = None
        if not self._launched.done():
            self._launched.set_result(False)

    def _set_killed(self, ran_for: int = 0) -> None:
        if not self.exited.done():
            killed = ExitStatus(_KILLED, signal.SIGKILL, False, time.time_ns(), ran_for)
            self.exited.set_result(killed)

    def _set_exit(self, body: Mapping[str, object]) -> None:
        if not self.exited.done():
            self.exited.set_result(exit_status(body))

    def _lost(self) -> None:
        """The shim closed the connection. If it did not say that the container ended, it was
        killed; what is left of the container is killed then, for nobody keeps it any more."""
        self._close()
        if self._released or self.exited.done() or not self.pid:
            return
        recorded = read_exit(self._exec_dir)
        if recorded is None:
            log.error("the shim of container %s was killed", self.container_id)
            with contextlib.suppress(OSError, Failure):
                remains.kill(self._exec_dir)
            self._set_killed(uptime() - self.started_clock if self.started else 0)
        else:
            self.exited.set_result(recorded)

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._connection.close()
        self._let_go_of_first()
        self._refuse_all(Lost("the container's shim is gone"))
        killed = ExitStatus(_KILLED, signal.SIGKILL, False, time.time_ns())
        for handle in self._execs.values():
            if not handle.exited.done() and not self._released:
                handle.exited.set_result(killed)
        self._execs.clear()


class ExecProcess:
    """A process in a running container. `reader` and `writer` are there if it was attached."""

    def __init__(self, owner: Shim, key: str) -> None:
        self.pid = 0
        self.exited: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None
        self._owner = owner
        self._key = key

    async def resize(self, height: int, width: int) -> None:
        await self._owner._call("resize", exec=self._key, height=height, width=width)


def _id_maps(body: Mapping[str, object]) -> IdMaps | None:
    ids = cast("Mapping[str, list[object]] | None", body.get("ids"))
    return None if ids is None else IdMaps.parse(ids["uidMappings"], ids["gidMappings"])


def _result(answer: "asyncio.Future[channel.Message]") -> channel.Message | None:
    """What had come when whoever waited for it was cancelled."""
    has_come = answer.done() and not answer.cancelled() and answer.exception() is None
    return answer.result() if has_come else None


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _sockets(descriptors: tuple[int, ...]) -> NetworkSockets:
    udp, tcp = descriptors[3:5] if len(descriptors) == 5 else (-1, -1)
    return NetworkSockets(descriptors[0], descriptors[1], descriptors[2], udp, tcp)


def _start_text(reason: str, code: int) -> str:
    if code == NO_USER:
        return reason
    return f"failed to create task for container: unable to start container process: {reason}"


def _exec_text(reason: str, code: int) -> str:
    if code == NO_USER:
        return reason
    return f"OCI runtime exec failed: exec failed: unable to start container process: {reason}"


async def _open_stream(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(sock=socket.socket(fileno=descriptor))


async def _receive(connection: socket.socket) -> channel.Message | None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            return channel.receive(connection)
        except BlockingIOError:
            readable = loop.create_future()
            loop.add_reader(connection.fileno(), _wake, readable)
            try:
                await readable
            finally:
                loop.remove_reader(connection.fileno())


async def _when_writable(
    connection: socket.socket, body: bytes, descriptors: tuple[int, ...]
) -> None:
    loop = asyncio.get_running_loop()
    while True:
        try:
            channel.send_encoded(connection, body, descriptors)
            return
        except BlockingIOError:
            writable = loop.create_future()
            loop.add_writer(connection.fileno(), _wake, writable)
            try:
                await writable
            finally:
                loop.remove_writer(connection.fileno())


def _wake(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
