"""The daemon's side of the runtime: start the spawner, and have containers launched by it."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import cast

from engine.errors import Failure, Unsupported
from engine.kernel import privileges
from engine.runtime import (
    accounts,
    cgroup_tree,
    channel,
    first,
    init,
    interpreter,
    orders,
    remains,
    sequence,
)
from engine.runtime.async_channel import receive, send
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.handle import NOT_STARTED, Lost, Shim, StartFailed, id_maps, start_text
from engine.runtime.patterns import Patterns
from engine.runtime.request import LaunchRequest, birth_orders, launch_orders, left_limits
from engine.runtime.script import Unscriptable, Written
from engine.runtime.spares import Mould, Spare, Spares, Told
from engine.runtime.steps import Step
from engine.runtime.users import Identity

log = logging.getLogger(__name__)


_ORDERS = channel.encode({"orders": True})  # beside it a descriptor
# One death may cost two: what had been begun, and what was asked of them while they went.
_TRIES = 3
_NEVER_THERE = "cannot start a container: the spawner ends again and again"


class Spawner:
    """Forks shims. One a daemon; it is started again when it died."""

    def __init__(self, interpreter: int, last_capability: int) -> None:
        self._interpreter = interpreter
        self._last_capability = last_capability
        self._connection: socket.socket | None = None
        self._pid = 0
        self._hierarchy = cgroup_tree.detect()
        self._patterns = Patterns()
        self._after_crash: dict[str, object] | None = None
        self._lock = asyncio.Lock()
        self._spares = Spares(self._fork)

    @classmethod
    async def start(cls) -> "Spawner":
        spawner = cls(interpreter.sealed_copy(), privileges.last_capability())
        try:
            async with spawner._lock:
                await spawner._connected()
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
            await send(self._connection, message, ())

    async def prepare(self, request: LaunchRequest, *, by_script: bool = True) -> "Shim":
        """The shim of a container whose namespaces and cgroup exist; `launch` is the next call.
        `by_script`: try that, what can be a script; where it was of no use (`Shim.is_unfit`), the
        next try is without. Raises StartFailed."""
        try:
            waiting = self._spares.taken_by(request.container_id)
            if waiting is not None and waiting.told is not None:
                if by_script and waiting.told.request == request:
                    handle = await self._shim_of(self._spares.redeem(waiting), request)
                    if handle is not None:
                        handle.is_told = True
                        return handle
                else:
                    await self._spares.give_up(request.container_id)
            return await self._prepare(request, by_script=by_script)
        finally:
            self._spares.replenish()

    async def _prepare(self, request: LaunchRequest, *, by_script: bool) -> "Shim":
        with _explained():
            asked = birth_orders(request)
            script = self._script(request, asked) if by_script else None
        if script is None:
            await self._spares.give_up(request.container_id)
        spare = await self._spares.take(asked)
        handle = await self._shim_of(spare, request) if spare is not None else None
        if handle is None:
            os.makedirs(request.exec_dir, 0o700, exist_ok=True)
            handle = await self._prepare_anew(request, {**asked, "scripted": script is not None})
        handle.script = script
        return handle

    async def _shim_of(self, spare: Spare, request: LaunchRequest) -> "Shim | None":
        """None, and nothing of it is left, where it ended meanwhile."""
        handle = Shim(spare.connection, spare.id, spare.exec_dir, first=spare.first)
        handle.is_spare = True
        for message in spare.said:
            handle._take(message)
        try:
            await handle._greeted()
        except Lost:
            await remains.clear(spare.exec_dir)
            return None
        if handle.sockets is not None and not request.dns:
            handle.sockets = handle.sockets.without_dns()
        return handle

    async def give_up(self, container_id: str) -> None:
        """What waits for this container to be started is gone on return."""
        await self._spares.give_up(container_id)

    def has_spare(self, container_id: str) -> bool:
        """Whether one waits that can do something ahead of the start."""
        return self._spares.taken_by(container_id) is not None

    def ahead(self, request: LaunchRequest, basis: object = None) -> None:
        """The files of a container exist that is being made: its spare, if it has one, does all
        until the payload while it waits. A start that asks for the same finds that done; before
        anybody else writes to the root, `give_up` is due. `basis`: what the request was made of."""
        spare = self._spares.taken_by(request.container_id)
        if spare is None:
            return
        try:
            asked = birth_orders(request)
            if Mould.of(asked) != spare.mould:
                return
            script = self._script(request, asked)
        except sequence.SpecError:
            return  # the start says so
        if script is None:
            return
        document = script.document()
        try:
            channel.send_encoded(spare.first, first.ORDER, (document,))
        except OSError as error:  # it is gone, as the start finds out
            log.info("nothing is done ahead for %s: %s", request.container_id, error)
        else:
            spare.told = Told(request, basis)
        finally:
            os.close(document)

    def told(self, container_id: str) -> Told | None:
        """What the spare of a container does ahead of its start, if it has one."""
        spare = self._spares.taken_by(container_id)
        return spare.told if spare is not None else None

    async def launch(self, shim: "Shim", request: LaunchRequest) -> None:
        """Returns when the first process has its orders, and waits for `go`. Raises StartFailed,
        and Lost where what was prepared is gone: nothing is left of it then."""
        try:
            if shim.is_told:
                await shim.launched()
            elif shim.script is not None:
                script, shim.script = shim.script, None
                await _order(shim, first.ORDER, script.document())
            else:
                with _explained():
                    walked = self._steps(request)
                await _order(shim, _ORDERS, orders.write(launch_orders(request), walked))
        except Lost:
            await remains.clear(request.exec_dir)
            raise

    def _script(self, request: LaunchRequest, asked: Mapping[str, object]) -> Written | None:
        """None: what this container wants is for the interpreter. `asked`: its birth orders. Raises
        SpecError."""
        if asked["pid_namespace"] or asked["ids"] is not None or request.files:
            return None
        layers = (request.rootfs.upper, *request.rootfs.lowers)
        identity = accounts.find_in_layers(request.user, request.groups, layers)
        if identity is None:
            return None
        try:
            return self._patterns.script(request, identity, partial(self._write, identity))
        except (Unscriptable, Unsupported) as error:
            log.debug("container %s is started without a script: %s", request.container_id, error)
            return None

    def _write(self, identity: Identity, request: LaunchRequest) -> Written:
        linux = cast("Mapping[str, object]", request.spec["linux"])
        cgroup = Cgroup(self._hierarchy, cast(str, linux["cgroupsPath"]))
        writes = cgroup.writes(left_limits(request))
        walked = self._steps(request)
        return first.script_of(walked, identity, cgroup, launch_orders(request), writes)

    async def _prepare_anew(self, request: LaunchRequest, asked: Mapping[str, object]) -> "Shim":
        for attempt in range(_TRIES):
            connection, first_process = await self._fork(asked)
            handle = Shim(connection, request.container_id, request.exec_dir, first=first_process)
            try:
                await handle._greeted()
                handle.ids = id_maps(asked)
                return handle
            except Lost:
                # The spawner or its maker died before there was a shim.
                await remains.clear(request.exec_dir)
                if attempt == _TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def close(self) -> None:
        """The spawner goes; shims and containers stay."""
        await self._spares.close()
        async with self._lock:
            self._end()
            os.close(self._interpreter)

    async def _fork(self, shims_part: Mapping[str, object]) -> tuple[socket.socket, socket.socket]:
        """A shim that does its part of the orders, and its first process: connections to both."""
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as after:
            document = orders.write(shims_part, ())
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
                connection = await self._connected()
                try:
                    await send(connection, channel.encode({"launch": True}), descriptors)
                    return
                except OSError as error:
                    log.warning("the spawner %d is gone (%s): starting another", self._pid, error)
                    self._end()
        raise Failure(_NEVER_THERE)

    async def _connected(self) -> socket.socket:
        """To a spawner, started if need be."""
        for _ in range(2):
            if self._connection is None and (killed_by := await self._spawn()):
                log.warning("the spawner was killed by signal %d as it started", killed_by)
            if self._connection is not None:
                return self._connection
        raise Failure(_NEVER_THERE)

    async def _spawn(self) -> int:
        """0, or the signal that killed it as it started: somebody's, so that another try is worth
        it. Raises Failure where it ended by itself."""
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
        ready = await receive(ours)
        if ready is None:
            code = self._end()  # below zero: the signal
            if code < 0:
                return -code
            program = sys._base_executable  # type: ignore[attr-defined]
            raise Failure(f"cannot start {program}: it ended at once, with code {code}")
        # It says no more: what can be read from now on is its end.
        asyncio.get_running_loop().add_reader(ours.fileno(), self._end)
        await self._tell_after_crash()
        return 0

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


async def _order(shim: Shim, message: bytes, document: int) -> None:
    try:
        await shim.order(message, document)
    finally:
        os.close(document)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sequence.SpecError as error:
        raise StartFailed(start_text(str(error), NOT_STARTED), NOT_STARTED) from error
