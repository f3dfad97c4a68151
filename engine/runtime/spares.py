"""Shims with a first process each that wait, in cgroup and namespaces, for what they will run.

The daemon's side. A cgroup is named after its container, so a spare has a container's id from the
start: whoever makes a container takes the id of a spare, and its start finds the spare. One that
is not started soon, or that wants other namespaces, costs nothing but the spare.

One waits at least, once a container was made. A container that finds none lets one more wait from
then on, up to `MOST`: a project that comes and goes finds a spare for each service. When nothing
was made for a while, one is enough again.
"""

import asyncio
import contextlib
import logging
import os
import posixpath
import shutil
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from engine.errors import Failure
from engine.ids import new_id
from engine.kernel import namespaces
from engine.runtime import channel, remains
from engine.runtime.async_channel import receive
from engine.runtime.request import LaunchRequest

log = logging.getLogger(__name__)

NAMESPACES = (
    namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
)
# Seconds after a start until the next spare is made: not in the way of what follows the start.
_PAUSE = 0.04
MOST = 8  # that wait; and as many more whose ids were given out and that were not started yet
_KEPT = 30.0  # seconds that a spare waits once its id was given out
IDLE = 30.0  # seconds without a new container after which one spare is enough


@dataclass(frozen=True, slots=True)
class Mould:
    """What spares are made like: the last container that one would have done for."""

    exec_root: str
    cgroup_parent: str
    devices: object  # the device rules of its resources

    @classmethod
    def of(cls, orders: Mapping[str, object]) -> "Mould | None":
        identifier = cast(str, orders["container_id"])
        exec_root, own = posixpath.split(cast(str, orders["exec_dir"]))
        parent, leaf = posixpath.split(cast(str, orders["cgroup"]))
        resources = cast("Mapping[str, object]", orders["resources"])
        if (
            orders["namespaces"] != NAMESPACES
            or orders["pid_namespace"]
            or not own == leaf == identifier
            or not resources.get("devices")
        ):
            return None
        return cls(exec_root, parent, resources["devices"])


def _orders(mould: Mould) -> dict[str, object]:
    identifier = new_id()
    return {
        "spare": True,
        "scripted": True,
        "container_id": identifier,
        "exec_dir": f"{mould.exec_root}/{identifier}",
        "cgroup": f"{mould.cgroup_parent}/{identifier}",
        "namespaces": NAMESPACES,
        "pid_namespace": "",
        "ids": None,
        "user_namespace": "",
        "own_network": True,
        "dns": True,
        "resources": {"devices": mould.devices},
    }


class Told(NamedTuple):
    request: LaunchRequest
    basis: object  # what it was made of, by which it is known again sooner


@dataclass(slots=True, eq=False)
class Spare:
    id: str
    mould: Mould
    connection: socket.socket
    first: socket.socket  # to its first process
    exec_dir: str
    said: list[channel.Message] = field(default_factory=list)  # that it is there, and what is
    told: Told | None = None  # what it does already, ahead of a start


class Spares:
    """`fork(orders)` has a shim made, and gives back how to reach it and its first process; it
    raises OSError or Failure."""

    def __init__(
        self,
        fork: Callable[[Mapping[str, object]], Awaitable[tuple[socket.socket, socket.socket]]],
    ) -> None:
        self._fork = fork
        self._mould: Mould | None = None
        self._free: list[Spare] = []  # oldest first
        self._wanted = 0  # how many are to be free
        self._taken: dict[str, Spare] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._beginning: set[asyncio.Task[None]] = set()
        self._leaving: dict[str, asyncio.Task[None]] = {}  # by id

    def take_id(self) -> str:
        """For a container that is about to be made; "" if there is no spare now."""
        loop = asyncio.get_running_loop()
        if self._resting is not None:
            self._resting.cancel()
        self._resting = loop.call_later(IDLE, self._rest)
        if not self._free:
            self._wanted = min(self._wanted + 1, MOST)
            return ""
        spare = self._free.pop(0)
        self._taken[spare.id] = spare
        while len(self._taken) > MOST:
            self._dismiss(next(iter(self._taken.values())))
        loop.call_later(_KEPT, self._expire, spare)
        self.replenish()
        return spare.id

    async def take(self, orders: Mapping[str, object]) -> Spare | None:
        """The spare that waits for this very container, if it is of its kind. If it isn't, it
        has gone when this returns."""
        mould = Mould.of(orders)
        if mould is not None and mould != self._mould:
            if self._mould is not None:
                self._rest()
            self._mould = mould
            for other in tuple(self._free):
                self._dismiss(other)
        identifier = cast(str, orders["container_id"])
        spare = self._taken.get(identifier)
        if spare is not None and mould != spare.mould:
            self._dismiss(spare)
            spare = None
        if spare is None:
            await self._gone(identifier)
            return None
        return self.redeem(spare)

    def redeem(self, spare: Spare) -> Spare:
        """One whose id was given out becomes the container of that id."""
        del self._taken[spare.id]
        asyncio.get_running_loop().remove_reader(spare.connection.fileno())
        return spare

    def taken_by(self, identifier: str) -> Spare | None:
        """The one whose id a container has that is not started yet."""
        return self._taken.get(identifier)

    async def give_up(self, identifier: str) -> None:
        """The container of this id will not be started: returns when its spare is gone."""
        if (spare := self._taken.get(identifier)) is not None:
            self._dismiss(spare)
        await self._gone(identifier)

    async def _gone(self, identifier: str) -> None:
        if identifier in self._leaving:
            await asyncio.shield(self._leaving[identifier])

    def replenish(self) -> None:
        """Have spares soon, once starts no longer follow each other."""
        if self._timer is not None:
            self._timer.cancel()
        if self._mould is not None and len(self._free) < self._wanted:
            self._timer = asyncio.get_running_loop().call_later(_PAUSE, self._begin)

    async def close(self) -> None:
        """Returns when none is left."""
        self._is_closing = True
        for timer in (self._timer, self._resting):
            if timer is not None:
                timer.cancel()
        for spare in (*self._taken.values(), *self._free):
            self._dismiss(spare)
        while going := (*self._beginning, *self._leaving.values()):
            await asyncio.wait(going)

    def _rest(self) -> None:
        """One is enough from now on."""
        self._wanted = min(self._wanted, 1)
        for spare in self._free[1:]:
            self._dismiss(spare)

    def _begin(self) -> None:
        if self._beginning or len(self._free) >= self._wanted:
            return
        task = asyncio.create_task(self._make())
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _make(self) -> None:
        mould = self._mould
        if mould is None or self._is_closing:
            return
        orders = _orders(mould)
        try:
            connection, first = await self._fork(orders)
        except (OSError, Failure) as error:
            log.warning("cannot prepare a container: %s", error)
            return
        identifier, exec_dir = cast(str, orders["container_id"]), cast(str, orders["exec_dir"])
        spare = Spare(identifier, mould, connection, first, exec_dir)
        self._free.append(spare)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._on_readable, spare)
        if self._is_closing or mould != self._mould:
            self._dismiss(spare)
        else:
            self.replenish()  # one after the other

    def _on_readable(self, spare: Spare) -> None:
        """It is prepared; later, or instead of that, it says why it failed, or ends."""
        with contextlib.suppress(BlockingIOError, OSError):
            message = channel.receive(spare.connection)
            if message is not None and message.body["event"] in ("connected", "prepared"):
                spare.said.append(message)
                return
            if message is not None:
                log.warning("cannot prepare a container: %s", message.body.get("error"))
        self._dismiss(spare)

    def _expire(self, spare: Spare) -> None:
        if self._taken.get(spare.id) is spare:
            self._dismiss(spare)

    def _dismiss(self, spare: Spare) -> None:
        self._taken.pop(spare.id, None)
        if spare in self._free:
            self._free.remove(spare)
        asyncio.get_running_loop().remove_reader(spare.connection.fileno())
        task = asyncio.create_task(self._await_end(spare))
        self._leaving[spare.id] = task
        task.add_done_callback(lambda _: self._left(spare))

    def _left(self, spare: Spare) -> None:
        error = self._leaving.pop(spare.id).exception()
        if error is not None:
            log.error("cannot clear away %s: %s", spare.exec_dir, error)

    async def _await_end(self, spare: Spare) -> None:
        """It cleans up when we leave; what a killed one left is cleared here."""
        for message in spare.said:
            _let_go(message)
        spare.first.close()
        with spare.connection as connection:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
            while not await _is_over(connection):
                pass
        await remains.clear(spare.exec_dir)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(spare.exec_dir)


async def _is_over(connection: socket.socket) -> bool:
    try:
        message = await receive(connection)
    except OSError:
        return True
    _let_go(message)
    return message is None


def _let_go(message: channel.Message | None) -> None:
    for descriptor in message.descriptors if message is not None else ():
        os.close(descriptor)
