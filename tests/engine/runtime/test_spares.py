from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from engine.runtime.spares import MOST
from tests.engine.runtime.laboratory import Laboratory, ended, shim_of
from tests.engine.runtime.test_launch import leftovers, nothing_left

pytestmark = pytest.mark.kernel


async def spare(lab: Laboratory) -> str:
    """The id of a spare, once there is one: they are made like what was launched before."""
    if not lab.spawner.take_id():
        await lab.run("true")
    async with asyncio.timeout(10):
        while not (identifier := lab.spawner.take_id()):
            await asyncio.sleep(0.01)
        while not shim_of(identifier):
            await asyncio.sleep(0.01)
    return identifier


async def first_process(shim: int) -> int:
    """A spare can be taken before it has one."""
    children = Path(f"/proc/{shim}/task/{shim}/children")
    async with asyncio.timeout(10):
        while not (found := children.read_text().split()):
            await asyncio.sleep(0.01)
    (pid,) = found
    return int(pid)


async def test_container_with_the_id_of_a_spare_runs_in_it(lab: Laboratory) -> None:
    identifier = await spare(lab)
    waiting = shim_of(identifier)
    request = lab.request(
        *("sh", "-c", "hostname; cat /proc/1/comm; echo $$; ls /sys/class/net; cat"),
        container_id=identifier,
        dns=True,
        open_stdin=True,
        stdin_once=True,
        resources={"pids": {"limit": 77}},
    )
    shim = await lab.launch(request)
    assert shim.shim_pid == waiting
    assert shim.sockets is not None
    assert shim.sockets.dns_udp >= 0
    reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
    await shim.go()
    writer.write(b"the input")
    writer.write_eof()
    output = await reader.read()
    assert b"".join(output.split(b"\n")).count(identifier[:12].encode()) == 1
    assert b"the input" in output
    assert (await shim.exited).code == 0
    writer.close()
    await shim.release()
    await nothing_left(identifier)


async def test_limits_hold_in_a_spare(lab: Laboratory) -> None:
    identifier = await spare(lab)
    request = lab.request(
        "sleep", "100", container_id=identifier, resources={"pids": {"limit": 77}}
    )
    await lab.start_request(request)
    limits = [
        (Path(folder) / "pids.max").read_text()
        for folder, _, files in os.walk("/sys/fs/cgroup")
        if folder.endswith(identifier) and "pids.max" in files
    ]
    assert "77\n" in limits


async def test_container_that_wants_other_namespaces_starts_without_the_spare(
    lab: Laboratory,
) -> None:
    identifier = await spare(lab)
    waiting = shim_of(identifier)
    request = lab.request(
        *("readlink", "/proc/self/ns/net"),
        container_id=identifier,
        namespaces={"network": "host"},
        own_network=False,
    )
    ran = await lab.run_request(request)
    assert ran.stdout.decode().strip() == os.readlink("/proc/self/ns/net")
    await ended(waiting)
    await nothing_left(identifier)


@pytest.mark.parametrize("whom", ["shim", "first process"])
async def test_killed_spare_costs_nothing(lab: Laboratory, whom: str) -> None:
    identifier = await spare(lab)
    shim = shim_of(identifier)
    first = await first_process(shim)
    killed = shim if whom == "shim" else first
    os.kill(killed, signal.SIGKILL)
    await ended(killed)  # its descriptors are closed by then
    request = lab.request("echo", "on", container_id=identifier)
    assert (await lab.run_request(request)).stdout == b"on\n"
    await ended(first)
    await nothing_left(identifier)


async def test_what_a_killed_spare_left_is_cleared(lab: Laboratory) -> None:
    identifier = await spare(lab)
    os.kill(shim_of(identifier), signal.SIGKILL)
    await nothing_left(identifier)
    async with asyncio.timeout(10):
        while Path(lab.folder, "exec", identifier).exists():
            await asyncio.sleep(0.01)


async def test_spares_go_with_the_spawner(lab: Laboratory) -> None:
    identifier = await spare(lab)
    pid = shim_of(identifier)
    await lab.spawner._spares.close()
    await ended(pid)
    assert leftovers(identifier) == []
    assert not Path(lab.folder, "exec", identifier).exists()


async def test_only_a_few_wait_for_their_start(lab: Laboratory) -> None:
    taken = [await spare(lab) for _ in range(MOST + 2)]
    for identifier in taken[:2]:
        await nothing_left(identifier)
    assert (await lab.run_request(lab.request("echo", "x", container_id=taken[0]))).stdout == b"x\n"


async def waiting(lab: Laboratory, count: int) -> set[str]:
    """The ids of the spares, once there are `count`."""
    folder = Path(lab.folder, "exec")
    async with asyncio.timeout(10):
        while len(found := {path.parent.name for path in folder.glob("*/shim.json")}) != count:
            await asyncio.sleep(0.01)
    return found


async def test_containers_that_found_no_spare_find_one_the_next_time(lab: Laboratory) -> None:
    for _ in range(3):  # made at once
        assert lab.spawner.take_id() == ""
    await lab.run("true")
    await waiting(lab, 3)
    taken = {lab.spawner.take_id() for _ in range(3)}
    assert "" not in taken
    for identifier in taken:
        ran = await lab.run_request(lab.request("echo", "x", container_id=identifier))
        assert ran.stdout == b"x\n"


async def test_one_spare_stays_when_nothing_is_started_for_long(lab: Laboratory) -> None:
    for _ in range(3):
        lab.spawner.take_id()
    await lab.run("true")
    before = await waiting(lab, 3)
    lab.spawner._spares._rest()
    (left,) = await waiting(lab, 1)
    for identifier in before - {left}:
        await nothing_left(identifier)
    assert lab.spawner.take_id() == left


async def test_spares_of_another_kind_make_way(lab: Laboratory) -> None:
    for _ in range(3):
        lab.spawner.take_id()
    await lab.run("true")
    before = await waiting(lab, 3)
    rules = {"devices": [{"allow": True, "access": "rwm"}]}
    await lab.run_request(lab.request("true", resources=rules))
    for identifier in before:
        await nothing_left(identifier)
    (other,) = await waiting(lab, 1)
    assert other not in before


async def test_a_spare_goes_with_the_container_that_is_not_started(lab: Laboratory) -> None:
    identifier = await spare(lab)
    shim = shim_of(identifier)
    await lab.spawner.give_up(identifier)
    await ended(shim)
    await nothing_left(identifier)
    assert not Path(lab.folder, "exec", identifier).exists()
