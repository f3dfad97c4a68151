"""Namespaces that containers share with each other."""

from __future__ import annotations

from typing import Any

import pytest

from engine.containers.model import HostConfig, LogQuery
from engine.errors import Conflict, Failure, InvalidRequest
from tests.engine.containers.conftest import Engine

pytestmark = pytest.mark.kernel


async def donor(engine: Engine, script: str = ":", *, mode: str = "shareable") -> str:
    """One that runs, once its script is through."""
    identifier = await engine.run(
        "sh", "-c", f"{script}; echo ok; exec sleep 1000", host=HostConfig(ipc_mode=mode)
    )
    pieces = engine.containers.logs(identifier, LogQuery(follow=True))
    assert b"ok" in await anext(aiter(pieces))
    return identifier


async def test_shared_memory_and_ipc_of_a_willing_container_are_shared(engine: Engine) -> None:
    identifier = await donor(
        engine, "echo secret >/dev/shm/f; readlink /proc/self/ns/ipc >/dev/shm/ns"
    )
    host = HostConfig(ipc_mode=f"container:{identifier}")
    script = "cat /dev/shm/f /dev/shm/ns; readlink /proc/self/ns/ipc; echo back >/dev/shm/back"
    code, output = await engine.finish("sh", "-c", script, host=host)
    secret, theirs, ours = output.splitlines()
    assert (code, secret, theirs) == (0, "secret", ours)
    # What is shared has lost nothing of its guards, and nothing else came along.
    _, table = await engine.finish("cat", "/proc/self/mountinfo", host=host)
    (shared,) = [line for line in table.splitlines() if line.split()[4] == "/dev/shm"]
    assert {"nosuid", "nodev", "noexec"} <= set(shared.split()[5].split(","))
    _, plain = await engine.finish("cat", "/proc/self/mountinfo")
    assert len(table.splitlines()) == len(plain.splitlines())


def sharing(kind: str, other: str) -> HostConfig:
    wanted: dict[str, Any] = {kind: f"container:{other}"}
    return HostConfig(**wanted)


@pytest.mark.parametrize("kind", ["network_mode", "pid_mode", "ipc_mode"])
async def test_who_is_shared_with_is_known_at_once_and_for_good(engine: Engine, kind: str) -> None:
    with pytest.raises(InvalidRequest, match="No such container: nosuch"):
        await engine.create("true", host=sharing(kind, "nosuch"))
    identifier = await donor(engine)
    await engine.containers.rename(identifier, "first")
    joiner = await engine.create("true", host=sharing(kind, "first"))
    assert getattr(engine.containers.get(joiner).host, kind) == f"container:{identifier}"
    await engine.containers.rename(identifier, "renamed")
    ended = engine.containers.wait(joiner, condition="next-exit")
    await engine.containers.start(joiner)
    assert (await ended).status_code == 0


async def test_an_unwilling_or_resting_container_shares_nothing(engine: Engine) -> None:
    private = await donor(engine, mode="private")
    joiner = await engine.create("true", host=HostConfig(ipc_mode=f"container:{private}"))
    with pytest.raises(Conflict, match="non-shareable IPC"):
        await engine.containers.start(joiner)
    resting = await engine.create("true", host=HostConfig(ipc_mode="shareable"))
    joiner = await engine.create("true", host=HostConfig(ipc_mode=f"container:{resting}"))
    with pytest.raises(Conflict, match=r"failed to join IPC namespace: .* is not running"):
        await engine.containers.start(joiner)


async def test_a_donor_cannot_pass_off_something_else(engine: Engine) -> None:
    """Its /dev is its own to change: a link there is not followed."""
    script = "mount -t tmpfs x /dev && ln -s /etc /dev/shm && echo ok && exec sleep 1000"
    host = HostConfig(
        ipc_mode="shareable", cap_add=("SYS_ADMIN",), security_opt=("seccomp=unconfined",)
    )
    identifier = await engine.run("sh", "-c", script, host=host)
    pieces = engine.containers.logs(identifier, LogQuery(follow=True))
    assert b"ok" in await anext(aiter(pieces))
    joiner = await engine.create("true", host=HostConfig(ipc_mode=f"container:{identifier}"))
    with pytest.raises(Failure, match="too many levels of symbolic links"):
        await engine.containers.start(joiner)
