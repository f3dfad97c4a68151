"""What a spare does for a container that is made, before anybody starts that."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from engine.runtime.handle import StartFailed
from engine.runtime.request import LaunchRequest
from tests.engine.runtime.laboratory import Laboratory, ended, shim_of
from tests.engine.runtime.test_launch import nothing_left
from tests.engine.runtime.test_spares import first_process, spare

pytestmark = pytest.mark.kernel


async def built(lab: Laboratory, *arguments: str, **changes: object) -> LaunchRequest:
    """A request whose container has its root already."""
    request = lab.request(*arguments, container_id=await spare(lab), **changes)  # type: ignore[arg-type]
    lab.spawner.ahead(request)
    first = await first_process(shim_of(request.container_id))
    async with asyncio.timeout(10):
        while not stands_apart(first):
            await asyncio.sleep(0.01)
    return request


def stands_apart(pid: int) -> bool:
    """In a root of its own, which is the last of what takes long."""
    return os.stat(f"/proc/{pid}/root/").st_dev != os.stat("/").st_dev


async def test_a_start_finds_the_root_that_was_built_ahead(lab: Laboratory) -> None:
    request = await built(
        lab, "sh", "-c", "cat /proc/1/comm; pwd; ls -l /proc/self/fd | wc -l; cat", cwd="/usr"
    )
    waiting = shim_of(request.container_id)
    ran = await lab.run_request(request)
    assert ran.stdout.split() == [b"sh", b"/usr", b"5"]  # 0, 1, 2, that of ls and the total
    assert ran.status.code == 0
    await ended(waiting)
    await nothing_left(request.container_id)


async def test_streams_that_nobody_wants_are_the_containers_own_null(lab: Laboratory) -> None:
    request = await built(lab, "stat", "-L", "-c", "%d", "/proc/self/fd/0", "/dev/null")
    one, other = (await lab.run_request(request)).stdout.split()
    assert one == other


async def test_a_terminal_and_an_init_come_with_the_start(lab: Laboratory) -> None:
    command = ("sh", "-c", "tty; ps -o comm= 1")
    request = lab.request(*command, container_id=await spare(lab), terminal=True, init=True)
    lab.spawner.ahead(request)
    ran = await lab.run_request(request)
    assert b"/dev/pts/0" in ran.stdout
    assert b"pycompose-init" in ran.stdout


async def test_what_changed_meanwhile_holds(lab: Laboratory) -> None:
    request = await built(lab, "sh", "-c", "hostname; echo $A", env=["PATH=/usr/bin", "A=1"])
    waiting = shim_of(request.container_id)
    spec = {**request.spec, "hostname": "other"}
    ran = await lab.run_request(replace(request, spec=spec))
    assert ran.stdout == b"other\n1\n"
    await ended(waiting)
    await nothing_left(request.container_id)


@pytest.mark.parametrize("whom", ["shim", "first process"])
async def test_one_that_is_killed_costs_nothing(lab: Laboratory, whom: str) -> None:
    request = await built(lab, "echo", "on")
    shim = shim_of(request.container_id)
    first = await first_process(shim)
    killed = shim if whom == "shim" else first
    os.kill(killed, signal.SIGKILL)
    await ended(killed)
    assert (await lab.run_request(request)).stdout == b"on\n"
    await ended(first)
    await nothing_left(request.container_id)


async def test_what_is_given_up_leaves_nothing(lab: Laboratory) -> None:
    request = await built(lab, "true")
    shim = shim_of(request.container_id)
    await lab.spawner.give_up(request.container_id)
    await ended(shim)
    await nothing_left(request.container_id)


async def test_what_can_not_be_built_is_told_by_the_start(lab: Laboratory) -> None:
    request = lab.request("true", container_id=await spare(lab))
    broken = replace(request, rootfs=replace(request.rootfs, work="/none"))
    shim = shim_of(request.container_id)
    lab.spawner.ahead(broken)
    await ended(shim)
    with pytest.raises(StartFailed, match=r"mount the root file system of 1 layers: open\(/none\)"):
        await lab.start_request(broken)
    await nothing_left(request.container_id)
