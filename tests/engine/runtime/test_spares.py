from __future__ import annotations

import asyncio
import json
import os
import select
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.launch import Shim
from engine.runtime.spares import MOST
from tests.engine.runtime.laboratory import Laboratory, ended
from tests.engine.runtime.test_launch import leftovers, nothing_left

pytestmark = pytest.mark.kernel


async def spare(lab: Laboratory) -> str:
    """The id of a spare, once there is one: they are made like what was launched before."""
    if not lab.spawner.take_id():
        await lab.run("true")
    async with asyncio.timeout(10):
        while not (identifier := lab.spawner.take_id()):
            await asyncio.sleep(0.01)
        while not Path(lab.folder, "exec", identifier, "shim.json").exists():
            await asyncio.sleep(0.01)
    return identifier


def record(lab: Laboratory, identifier: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(
        Path(lab.folder, "exec", identifier, "shim.json").read_text()
    )
    return found


async def test_container_with_the_id_of_a_spare_runs_in_it(lab: Laboratory) -> None:
    identifier = await spare(lab)
    waiting = record(lab, identifier)["shim"]
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
        path.read_text()
        for path in Path("/sys/fs/cgroup").rglob("pids.max")
        if path.parent.name == identifier
    ]
    assert "77\n" in limits


async def test_container_that_wants_other_namespaces_starts_without_the_spare(
    lab: Laboratory,
) -> None:
    identifier = await spare(lab)
    waiting = record(lab, identifier)["shim"]
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


@pytest.mark.parametrize("whom", ["shim", "pid"])
async def test_killed_spare_costs_nothing(lab: Laboratory, whom: str) -> None:
    identifier = await spare(lab)
    found = record(lab, identifier)
    os.kill(found[whom], signal.SIGKILL)
    await ended(found[whom])  # its descriptors are closed by then
    request = lab.request("echo", "on", container_id=identifier)
    assert (await lab.run_request(request)).stdout == b"on\n"
    await ended(found["pid"])
    await nothing_left(identifier)


async def test_what_a_killed_spare_left_is_cleared(lab: Laboratory) -> None:
    identifier = await spare(lab)
    os.kill(record(lab, identifier)["shim"], signal.SIGKILL)
    await nothing_left(identifier)
    async with asyncio.timeout(10):
        while Path(lab.folder, "exec", identifier).exists():
            await asyncio.sleep(0.01)


async def test_spares_go_with_the_spawner(lab: Laboratory) -> None:
    identifier = await spare(lab)
    pid = record(lab, identifier)["shim"]
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


async def lived(lab: Laboratory, *command: str) -> tuple[str, int]:
    """Of a container that was: its id, and the shim that served it."""
    request = lab.request(*command, container_id=await spare(lab))
    shim = await lab.launch(request)
    pid = shim.shim_pid
    await shim.go()
    await released(lab, shim)
    return request.container_id, pid


async def released(lab: Laboratory, shim: Shim) -> None:
    """While one spare more is wanted."""
    await shim.exited
    lab.spawner._spares._wanted = lab.spawner._spares._coming() + 1
    await shim.release()


async def renewed(lab: Laboratory, shim: int) -> str:
    """The id of the spare that this shim is by now."""
    async with asyncio.timeout(10):
        while True:
            for path in Path(lab.folder, "exec").glob("*/shim.json"):
                is_ready = "poll" in Path(f"/proc/{shim}/wchan").read_text()
                if record(lab, path.parent.name)["shim"] == shim and is_ready:
                    return path.parent.name
            await asyncio.sleep(0.01)


async def test_shim_of_a_container_that_is_gone_becomes_a_spare(lab: Laboratory) -> None:
    first, shim = await lived(lab, "sh", "-c", "sleep 100 & echo one")
    await nothing_left(first)
    second = await renewed(lab, shim)
    command = Path(f"/proc/{shim}/cmdline").read_bytes()
    assert command.startswith(b"pycompose-shim " + second.encode())
    while lab.spawner.take_id() != second:
        pass
    request = lab.request("ls", "/proc/self/fd", container_id=second)
    assert (await lab.run_request(request)).stdout == b"0\n1\n2\n3\n"
    assert '"log":"3\\n"' in Path(request.log.path).read_text()


async def test_no_descriptor_of_one_life_is_there_in_the_next(lab: Laboratory) -> None:
    _, shim = await lived(lab, "true")
    counts = []
    for _ in range(4):
        identifier = await renewed(lab, shim)
        counts.append(len(os.listdir(f"/proc/{shim}/fd")))
        while lab.spawner.take_id() != identifier:
            pass
        request = lab.request("sh", "-c", "echo x; sleep 100 &", container_id=identifier)
        served = await lab.launch(request)
        assert served.shim_pid == shim
        await served.go()
        await released(lab, served)
    assert len(set(counts)) == 1, counts


async def test_renewed_spares_go_with_the_spawner(lab: Laboratory) -> None:
    _, shim = await lived(lab, "true")
    identifier = await renewed(lab, shim)
    await lab.spawner._spares.close()
    await ended(shim)
    await nothing_left(identifier)


async def cancelled_too_late(shim: Shim, asked: Coroutine[Any, Any, object]) -> None:
    """The answer is there, and whoever asked ends before it is taken."""
    task = asyncio.create_task(asked)
    await asyncio.sleep(0)  # it asks
    select.select([shim._connection], [], [], 10)
    shim._on_readable()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_nobody_takes_any_more_stays_open_nowhere(lab: Laboratory) -> None:
    shim = await lab.start("sleep", "1000", dns=True)
    before = len(os.listdir("/proc/self/fd"))
    await cancelled_too_late(shim, shim.attach(stdin=False, stdout=True, stderr=True))
    await cancelled_too_late(shim, shim.network_sockets())
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_spare_that_nobody_welcomes_goes(lab: Laboratory) -> None:
    request = lab.request("true", container_id=await spare(lab))
    shim = await lab.launch(request)
    await shim.go()
    await shim.exited
    lab.spawner._spares._wanted = lab.spawner._spares._coming() + 1
    await cancelled_too_late(shim, shim.release())
    assert shim._connection.fileno() == -1
    await ended(shim.shim_pid)
