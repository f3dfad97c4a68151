"""A container's first process until it is told what to become: so it can be there, in its
namespaces and its cgroup, before anybody knows that.

The daemon tells it; the shim only hears what comes of it. For what that takes in memory goes with
execve here, while a shim would keep it.
"""

import os
import socket
from collections.abc import Sequence
from typing import NoReturn

from engine.kernel import namespaces, process
from engine.runtime import channel, init, orders, reaper
from engine.runtime.birth import Birth
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.stdio import Pipes
from engine.runtime.steps import EnterCgroup, Place, Step


def await_orders(birth: Birth, cgroup: Cgroup) -> NoReturn:
    """A container's first process, just born into the container's cgroup where that has the
    unified tree: it waits, warmed up if that may be long, for the daemon's orders."""
    place = Place(
        socket.socket(fileno=birth.supervisor),
        cgroup,
        orders=socket.socket(fileno=birth.orders),
        user=birth.user,
        files=birth.files,
        owner=birth.owner,
    )
    init.become(lambda: _await_orders(birth, place), place)


def _await_orders(birth: Birth, place: Place) -> Sequence[Step]:
    init.run_step(EnterCgroup(), place)
    for kind, descriptor in (
        (namespaces.CLONE_NEWNET, birth.network),
        (namespaces.CLONE_NEWIPC, birth.ipc),
        (namespaces.CLONE_NEWUTS, birth.uts),
    ):
        if descriptor >= 0:
            namespaces.setns(descriptor, kind)
    # Of the shim's: with its ends of connections open here, its death would not be seen.
    kept = (one for one in (place.user, place.files) if one >= 0)
    process.close_all_but(place.supervisor.fileno(), birth.orders, reaper.DESCRIPTOR, *kept)
    assert place.orders is not None
    message = channel.receive(place.orders)
    if message is None:
        os._exit(1)
    (document,) = message.descriptors
    walked, shims_part = orders.read_steps(document), orders.read_shims_part(document)
    os.close(document)
    use_stdio({**shims_part, "ahead": False}, place.supervisor)
    channel.send(place.orders, {})  # from now on whoever is attached gets all
    return walked


def use_stdio(shims_part: dict[str, object], supervisor: socket.socket) -> None:
    """The shim is given its ends of it, with its part of the orders."""
    # What is no pipe is null, of which only the descriptor is sure: /dev may be the container's.
    pipes = None
    if not shims_part["terminal"]:
        pipes = Pipes(stdin=bool(shims_part["open_stdin"]), null=os.dup(0))
    stdin = (pipes.input,) if pipes is not None and pipes.input >= 0 else ()
    channel.send(supervisor, {"state": "launched", **shims_part}, stdin)
    if pipes is not None:
        channel.send(supervisor, {"state": "stdio"}, tuple(pipes.outputs))
        init.use_stdio(pipes.theirs)
        pipes.close_theirs()
        for descriptor in (*stdin, *pipes.outputs):
            os.close(descriptor)
