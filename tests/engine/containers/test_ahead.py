"""The root of a container is built when it is made: what comes before its start still counts."""

from __future__ import annotations

import asyncio
import logging

import pytest

from engine.containers.model import Device, EndpointSettings, HostConfig, ResourceUpdate
from engine.networks.model import NetworkSpec
from tests.engine.containers.conftest import Engine
from tests.engine.images.archives import chunks, entry, tar
from tests.engine.runtime.laboratory import ended, shim_of
from tests.engine.runtime.test_ahead import stands_apart
from tests.engine.runtime.test_spares import first_process

pytestmark = pytest.mark.kernel


async def built(engine: Engine, *command: str) -> tuple[str, int]:
    """A new container, and the first process that has built its root."""
    await engine.finish("true")
    async with asyncio.timeout(10):
        while not engine.spawner._spares._free:
            await asyncio.sleep(0.01)
        identifier = await engine.create(*command)
        while not (shim := shim_of(identifier)):
            await asyncio.sleep(0.01)
        first = await first_process(shim)
        while not stands_apart(first):
            await asyncio.sleep(0.01)
    return identifier, first


async def output_of(engine: Engine, identifier: str) -> str:
    over = engine.containers.wait(identifier, condition="next-exit")
    await engine.containers.start(identifier)
    assert (await over).status_code == 0
    return await engine.output(identifier)


async def test_it_becomes_the_container(engine: Engine) -> None:
    identifier, first = await built(engine, "sleep", "100")
    await engine.containers.start(identifier)
    assert engine.get(identifier).state.pid == first


async def test_a_file_that_is_copied_before_the_start_is_there(engine: Engine) -> None:
    identifier, first = await built(engine, "cat", "/srv/new", "/etc/hostname")
    archive = chunks(tar([entry("new", b"new\n")]))
    await engine.containers.write_archive(identifier, "/srv", archive)
    await ended(first)
    assert await output_of(engine, identifier) == f"new\n{identifier[:12]}\n"


async def test_limits_of_an_update_before_the_start_hold(engine: Engine) -> None:
    limit = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true"
    identifier, first = await built(engine, "sh", "-c", limit)
    await engine.containers.update(identifier, ResourceUpdate(pids_limit=77))
    assert await output_of(engine, identifier) == "77\n"
    await ended(first)


async def test_names_of_the_network_joined_before_the_start_are_there(engine: Engine) -> None:
    network = await engine.networks.create(NetworkSpec("front"))
    identifier, first = await built(engine, "cat", "/etc/hosts")
    await engine.containers.connect(network.id, identifier, EndpointSettings())
    text = await output_of(engine, identifier)
    assert engine.get(identifier).state.exit_code == 0
    assert text.count(identifier[:12]) == 2
    await ended(first)


async def test_it_goes_with_a_container_that_is_removed(engine: Engine) -> None:
    identifier, first = await built(engine, "true")
    await engine.containers.remove(identifier)
    await ended(first)
    async with asyncio.timeout(10):
        while (engine.folder / "data/containers" / identifier).exists():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("host", [
    HostConfig(),
    HostConfig(devices=(Device("/dev/full", "/dev/some/where", "rwm"),)),
    HostConfig(privileged=True),
], ids=["usual", "device", "privileged"])  # fmt: skip
async def test_one_that_nothing_waits_for_is_started_by_a_script_too(
    engine: Engine, caplog: pytest.LogCaptureFixture, host: HostConfig
) -> None:
    caplog.set_level(logging.DEBUG, "engine")
    assert await engine.finish("readlink", "/dev/ptmx", host=host) == (0, "pts/ptmx\n")
    assert "without a script" not in caplog.text
    assert "started anew" not in caplog.text
