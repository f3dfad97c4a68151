"""One contract for every engine: ours and Docker's answer the client alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.errors import ApiError, Conflict, NotFound
from compose.client.streams import Source, outputs, read_blocks
from tests.compose.engines import IMAGE

pytestmark = pytest.mark.peer

SHELL = {"Image": IMAGE, "StopTimeout": 0}


@pytest.fixture
async def container(engine: Engine) -> AsyncIterator[str]:
    """A running one that sleeps."""
    body = {**SHELL, "Cmd": ["sleep", "1000"], "Labels": {"test": "client"}}
    made, warnings = await engine.containers.create("client-1", body)
    assert warnings == ()
    await engine.containers.start(made)
    yield made
    await engine.containers.remove(made, force=True, volumes=True)


async def run(engine: Engine, command: str, name: str = "client-run", **body: object) -> str:
    made, _ = await engine.containers.create(name, {**SHELL, "Cmd": ["sh", "-c", command], **body})
    await engine.containers.start(made)
    return made


async def test_the_version_is_the_lower_of_both(engine: Engine) -> None:
    stated = str((await engine.version())["ApiVersion"])
    assert engine.api_version == min((1, 51), tuple(int(part) for part in stated.split(".")))


async def test_output_arrives_by_stream_and_the_exit_code_by_wait(engine: Engine) -> None:
    made = await run(engine, "echo out; echo err >&2; exit 3")
    try:
        assert await engine.containers.wait(made) == 3
        said = [output async for output in engine.containers.logs(made, tty=False)]
        assert {(output.source, output.text) for output in said} == {
            (Source.STDOUT, b"out\n"),
            (Source.STDERR, b"err\n"),
        }
        details = await engine.containers.inspect(made)
        assert (details.status, details.exit_code, details.running) == ("exited", 3, False)
        # dockerd stamps the start only after containerd's answer: a short life may have ended
        # before it by these stamps.
        assert details.started_at > 0
        assert details.finished_at > 0
    finally:
        await engine.containers.remove(made)


async def test_the_list_tells_state_labels_and_networks(engine: Engine, container: str) -> None:
    (row,) = await engine.containers.list(filters={"label": ["test=client"]})
    assert isinstance(row, ContainerSummary)
    assert (row.id, row.name, row.state, row.exit_code) == (container, "client-1", "running", None)
    assert "bridge" in row.networks
    await engine.containers.kill(container)
    await engine.containers.wait(container)
    (row,) = await engine.containers.list(filters={"label": ["test=client"]})
    assert (row.state, row.exit_code) == ("exited", 137)


async def test_refusals_carry_the_status_and_the_engines_words(
    engine: Engine, container: str
) -> None:
    with pytest.raises(Conflict, match="already in use"):
        await engine.containers.create("client-1", {**SHELL, "Cmd": ["true"]})
    with pytest.raises(NotFound, match="No such container"):
        await engine.containers.inspect("nosuch")
    with pytest.raises(NotFound, match="No such image"):
        await engine.containers.create("other", {"Image": "nosuch:1"})
    with pytest.raises(ApiError) as caught:
        await engine.containers.remove(container)
    assert caught.value.status == 409
    assert caught.value.request == f"DELETE /containers/{container}"


async def test_starting_twice_and_stopping_twice_is_no_error(
    engine: Engine, container: str
) -> None:
    await engine.containers.start(container)
    await engine.containers.stop(container, timeout=0)
    await engine.containers.stop(container, timeout=0)


async def test_events_come_from_the_moment_of_subscribing(engine: Engine, container: str) -> None:
    filters = {"type": ["container"], "container": [container], "event": ["die", "start"]}
    async with engine.events.subscribe(filters=filters) as events:
        await engine.containers.kill(container)
        died = await anext(events)
        await engine.containers.start(container)
        started = await anext(events)
    assert (died.action, died.exit_code, died.actor_id) == ("die", 137, container)
    assert (started.action, started.attributes["name"]) == ("start", "client-1")
    assert started.time > died.time


async def test_an_exec_has_streams_and_an_exit_code(engine: Engine, container: str) -> None:
    exec_id = await engine.containers.create_exec(
        container, ["sh", "-c", "cat; echo $A >&2; exit 5"], stdin=True, environment=["A=1"]
    )
    duplex = await engine.containers.start_exec(exec_id)
    await duplex.write(b"through stdin\n")
    duplex.finish_writing()
    said = {output.source: output.text async for output in outputs(read_blocks(duplex), tty=False)}
    await duplex.close()
    assert said == {Source.STDOUT: b"through stdin\n", Source.STDERR: b"1\n"}
    assert (await engine.containers.inspect_exec(exec_id)).exit_code == 5


async def test_attached_before_the_start_nothing_is_missed(engine: Engine) -> None:
    made, _ = await engine.containers.create(
        "client-attach", {**SHELL, "Cmd": ["echo", "first words"]}
    )
    try:
        duplex = await engine.containers.attach(made)
        await engine.containers.start(made)
        said = b"".join([o.text async for o in outputs(read_blocks(duplex), tty=False)])
        await duplex.close()
        assert said == b"first words\n"
    finally:
        await engine.containers.remove(made, force=True)


async def test_following_a_log_ends_with_the_container(engine: Engine) -> None:
    made = await run(engine, "echo one; sleep 0.2; echo two")
    try:
        logs = engine.containers.logs(made, tty=False, follow=True)
        assert b"".join([output.text async for output in logs]) == b"one\ntwo\n"
    finally:
        await engine.containers.remove(made, force=True)


async def test_an_abandoned_stream_is_no_trouble(engine: Engine, container: str) -> None:
    async def follow() -> None:
        async for _ in engine.containers.logs(container, tty=False, follow=True):
            raise AssertionError("it says nothing")

    task = asyncio.create_task(follow())
    async with engine.events.subscribe():
        await engine.containers.inspect(container)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await engine.containers.inspect(container)).running


async def test_networks_are_made_joined_left_and_removed(engine: Engine, container: str) -> None:
    made = await engine.networks.create({"Name": "client-net", "Labels": {"a": "b"}})
    try:
        assert (await engine.networks.inspect("client-net")).labels == {"a": "b"}
        await engine.networks.connect("client-net", container, {"Aliases": ["other"]})
        (row,) = await engine.containers.list(filters={"id": [container]})
        assert row.networks["client-net"] == made
        await engine.networks.disconnect("client-net", container)
        (row,) = await engine.containers.list(filters={"id": [container]})
        assert "client-net" not in row.networks
    finally:
        await engine.networks.remove("client-net")
    assert "client-net" not in [network.name for network in await engine.networks.list()]


async def test_volumes_are_made_once_and_removed(engine: Engine) -> None:
    first = await engine.volumes.create({"Name": "client-vol", "Labels": {"a": "b"}})
    again = await engine.volumes.create({"Name": "client-vol"})
    assert (first.name, again.labels) == ("client-vol", {"a": "b"})
    await engine.volumes.remove("client-vol")
    with pytest.raises(NotFound):
        await engine.volumes.inspect("client-vol")


async def test_health_is_told_with_its_probes(engine: Engine) -> None:
    check = {"Test": ["CMD-SHELL", "echo fine"], "Interval": 100_000_000}
    filters = {"event": ["health_status"]}
    async with engine.events.subscribe(filters=filters) as events:
        made = await run(engine, "sleep 1000", Healthcheck=check)
        try:
            event = await anext(events)
            assert (event.action, event.detail) == ("health_status", "healthy")
            details = await engine.containers.inspect(made)
            assert details.health == "healthy"
            assert details.probes[0].output.strip() == "fine"
            (row,) = await engine.containers.list(filters={"id": [made]})
            assert row.health == "healthy"
        finally:
            await engine.containers.remove(made, force=True)


async def test_images_are_found_or_not(engine: Engine) -> None:
    image = await engine.images.inspect(IMAGE)
    assert image.id.startswith("sha256:")
    assert IMAGE in image.tags
    assert await engine.images.find("nosuch:1") is None


async def test_the_processes_of_a_container_are_listed(engine: Engine, container: str) -> None:
    table = await engine.containers.top(container)
    assert any("sleep 1000" in " ".join(row) for row in table.processes)
    assert "PID" in table.titles
