"""A container's first process until it is told what to become: so it can be there, in its
namespaces and its cgroup, before anybody knows that.
"""

import os
import socket
from collections.abc import Sequence
from typing import NoReturn

from engine.kernel import namespaces, process
from engine.runtime import channel, init, orders, reaper
from engine.runtime.birth import Birth
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.rehearsal import rehearse_payload, rehearse_world
from engine.runtime.steps import EnterCgroup, Place, Step
from engine.runtime.world import build


def await_orders(birth: Birth, supervisor: socket.socket, cgroup: Cgroup) -> NoReturn:
    """A container's first process, just born into the container's cgroup where that has the
    unified tree: it waits, warmed up if that may be long, for a message with the descriptors of
    its orders and of its stdio."""
    place = Place(supervisor, cgroup, user=birth.user, files=birth.files, owner=birth.owner)
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
    # Of the shim's: with its end of our own connection open here, its death would not be seen.
    kept = (one for one in (place.user, place.files, birth.world) if one >= 0)
    process.close_all_but(place.supervisor.fileno(), reaper.DESCRIPTOR, *kept)
    if birth.world >= 0:
        _spend_the_wait(orders.read_steps(birth.world), place)
        os.close(birth.world)
    message = channel.receive(place.supervisor)
    if message is None:
        os._exit(1)
    document, *stdio = message.descriptors
    init.use_stdio(stdio)
    walked = orders.read_steps(document)
    for descriptor in message.descriptors:
        os.close(descriptor)
    return walked


def _spend_the_wait(world: Sequence[Step], place: Place) -> None:
    """Do what can be done of a container, or try it; and try the rest."""
    if world:
        build(world, place)
    else:
        rehearse_world()
    rehearse_payload()
