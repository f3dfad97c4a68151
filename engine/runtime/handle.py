"""The daemon's handles on what it started: a container's shim, and a process run inside later."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from engine.errors import Failure
from engine.kernel import privileges
from engine.runtime import birth, channel, join, orders, patterns, remains, sequence, steps
from engine.runtime.async_channel import send
from engine.runtime.clock import uptime
from engine.runtime.files import File, replacing
from engine.runtime.id_maps import IdMaps
from engine.runtime.payload import NO_USER
from engine.runtime.remains import ExitStatus, exit_status, read_exit
from engine.runtime.script import Unscriptable, Written
from engine.runtime.steps import NO_ROOM, Step
from engine.runtime.users import Identity

log = logging.getLogger(__name__)

NOT_STARTED = 128
_KILLED = 137


class StartFailed(Failure):
    """A container or exec whose process can't be started. `exit_code` is what clients report:
    127 not found, 126 not executable, 128 the rest; NO_USER is the engine's own."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Lost(Failure):
    """The shim is gone and so is what it kept."""


@dataclass(frozen=True, slots=True)
class ExecRequest:
    process: Mapping[str, object]  # the OCI process object
    user: str
    groups: tuple[str, ...]
    seccomp: bytes
    attach_stdin: bool
    attach_stdout: bool
    attach_stderr: bool
    identity: Identity | None = None  # who the user is, if that could be found out


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
        self.was_told = False  # to go
        self.is_unfit = False  # it is no more, and nothing of its container ever ran
        self.is_told = False  # all of its steps, ahead of its start
        self.script: Written | None = None  # of these
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
        self._knows_scripts = False
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
        self.was_told = True
        await self._order(steps.GO)
        await self._beginning

    async def order(self, message: bytes, document: int) -> None:
        """What its first process is to do. Raises StartFailed, and Lost if the shim ended."""
        await self._order(message, (document,))
        await self.launched()

    async def launched(self) -> None:
        """Returns when the first process has its orders. Raises as `order`."""
        if not await self._launched:
            await self._beginning  # raises why

    async def _order(self, message: bytes, descriptors: tuple[int, ...] = ()) -> None:
        """Tell the first process; if it is no more, the shim says why."""
        if self._first is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                await send(self._first, message, descriptors)

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
        except StartFailed:
            return  # a start that was refused has cleared itself away
        except Lost:
            await remains.clear(self._exec_dir)
            return
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
        shims_part = {
            "terminal": bool(request.process.get("terminal")),
            "oom_score": request.process.get("oomScoreAdj") or 0,
            "apparmor": request.process.get("apparmorProfile") or "",
            "stdin": request.attach_stdin,
            "stdout": request.attach_stdout,
            "stderr": request.attach_stderr,
        }
        walked: Sequence[Step] = ()
        try:
            script = self._script(request, shims_part)
            if script < 0:
                walked = self._steps(request, request.process, self.container_id)
        except sequence.SpecError as error:
            raise StartFailed(_exec_text(str(error), NOT_STARTED), NOT_STARTED) from error
        try:
            try:
                return await self._start_inside(shims_part, walked, script)
            except StartFailed as error:
                if error.exit_code != NO_ROOM:
                    raise
            walked = walked or self._steps(request, request.process, self.container_id)
            return await self._start_inside({**shims_part, "crowded": True}, walked)
        except StartFailed as error:
            code = NOT_STARTED if error.exit_code == NO_ROOM else error.exit_code
            raise StartFailed(_exec_text(str(error), code), code) from None

    def _steps(
        self, request: ExecRequest, process: Mapping[str, object], container_id: str
    ) -> Sequence[Step]:
        return sequence.exec_sequence(
            process,
            container_id=container_id,
            user=request.user,
            groups=request.groups,
            seccomp=request.seccomp,
            last_capability=privileges.last_capability(),
            in_user_namespace=self.ids is not None,
        )

    def _script(self, request: ExecRequest, shims_part: Mapping[str, object]) -> int:
        """A descriptor, the caller's to close; -1 where these steps are more than one can do."""
        process, identifier = request.process, self.container_id
        variables, arguments = (cast("Sequence[str]", process[key]) for key in ("env", "args"))
        if (
            request.identity is None
            or self.ids is not None
            or not self._knows_scripts
            or not patterns.are_told_apart((*variables, *arguments, cast(str, process["cwd"])))
        ):
            return -1
        # One for all containers: in the environment, the host name is of an id.
        variables = [patterns.without_id(line, identifier) for line in variables]
        walked = self._steps(request, {**process, "env": variables}, patterns.NO_ID)
        try:
            pattern = join.script_of(
                tuple(walked),
                request.identity,
                streams=(request.attach_stdin, request.attach_stdout, request.attach_stderr),
                terminal=bool(shims_part["terminal"]),
                oom_score=cast(int, shims_part["oom_score"]),
                apparmor=cast(str, shims_part["apparmor"]),
            )
        except Unscriptable:
            return -1
        return patterns.with_id(pattern, identifier).document()

    async def replace_files(self, files: Sequence[File]) -> None:
        """New contents for files that it was launched with. Raises StartFailed."""
        shims_part = {
            **dict.fromkeys(("terminal", "stdin", "stdout", "stderr"), False),
            "oom_score": 0,
        }
        process = await self._start_inside(shims_part, replacing(files, self.ids))
        await process.exited

    async def _start_inside(
        self, shims_part: Mapping[str, object], walked: Sequence[Step], script: int = -1
    ) -> "ExecProcess":
        self._number += 1
        key = f"{os.getpid()}-{time.monotonic_ns()}-{self._number}"
        shims_part = {**shims_part, "key": key}
        document = script if script >= 0 else orders.write(shims_part, walked)
        handle = ExecProcess(self, key)
        self._execs[key] = handle
        try:
            more = shims_part if script >= 0 else {}
            message = await self._call("exec", descriptors=(document,), **more)
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
        except BaseException:
            if self.sockets is not None:
                self.sockets.close()
                self.sockets = None
            self._close()
            raise
        self.pid, self.shim_pid = cast(int, body["pid"]), cast(int, body["shim"])
        if body["event"] == "prepared":
            self._knows_scripts = True
            return self
        self.container_id = cast(str, body["container_id"])
        # Shims outlive their daemon, also one that is replaced by a newer version: what came later
        # isn't in what an older one says.
        self.ids = id_maps(body)
        self._knows_scripts = bool(body.get("scripts"))
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
            await send(self._connection, channel.encode(body), descriptors)
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
            case "failed":  # at once, as its connection ends with it
                self._fail(message.body)
            case "oom":
                self.when_out_of_memory()
            case "unfit":
                log.info("what was prepared is gone: %s", message.body["error"])
                self._released = self.is_unfit = True
                self._set_killed()
            case _:
                if not self._greeting.done():
                    self._greeting.set_result(message)

    def _fail(self, body: Mapping[str, object]) -> None:
        """Nothing is left of it, nor will be of its shim."""
        self._released = True
        text, code = cast(str, body["error"]), cast(int, body["code"])
        self._failure = StartFailed(start_text(text, code), code)
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


def id_maps(body: Mapping[str, object]) -> IdMaps | None:
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


def start_text(reason: str, code: int) -> str:
    if code == NO_USER:
        return reason
    return f"failed to create task for container: unable to start container process: {reason}"


def _exec_text(reason: str, code: int) -> str:
    if code == NO_USER:
        return reason
    return f"OCI runtime exec failed: exec failed: unable to start container process: {reason}"


async def _open_stream(descriptor: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
