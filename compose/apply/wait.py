"""Waiting for containers to be started, healthy or completed, driven by the engine's events.

A failure is told with its reason: the exit code and the end of the log, or what the probe said.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Collection, Iterator
from typing import assert_never

from compose.apply.errors import WaitFailed
from compose.apply.listener import Listener, Readying, silent
from compose.apply.watch import ContainerWatch, health_since_start
from compose.client.containers import ContainerDetails
from compose.client.engine import Engine
from compose.client.errors import ApiError, NotFound
from compose.model.service import Condition
from compose.plan import names
from compose.tasks import Together

LOG_LINES = 10
# What has no check counts as up once it has lived for so long: programs that can't start (a wrong
# option, a missing file, a refused connection) end within a second or so.
SETTLING = 1.5


async def await_condition(
    watch: ContainerWatch, condition: Condition, containers: Collection[str]
) -> None:
    """Returns when all `containers` (ids) are as wanted; raises WaitFailed when one can't be."""
    async with Together() as group:
        for container in containers:
            match condition:
                case Condition.STARTED:
                    group.create_task(_await_started(watch, container))
                case Condition.HEALTHY:
                    group.create_task(_await_healthy(watch, container))
                case Condition.COMPLETED:
                    group.create_task(_await_completed(watch, container))
                case _:
                    assert_never(condition)


async def await_ready(
    watch: ContainerWatch,
    containers: Collection[str],
    listener: Listener = silent,
    *,
    settling: float = SETTLING,
) -> None:
    """All of them healthy, or up for `settling` seconds where there is no check, or ended with
    code 0; and still so when the last one is. Raises WaitFailed."""
    async with Together() as group:
        for container in containers:
            group.create_task(_await_one_ready(watch, container, listener, settling))
    for container in containers:
        state = watch.state(container)
        if state.status == "exited" and state.exit_code != 0:
            raise await death(watch, container, "ended after it had been ready")


@contextlib.asynccontextmanager
async def in_time(
    watch: ContainerWatch, containers: Collection[str], timeout: float | None
) -> AsyncIterator[None]:
    """Raises WaitFailed once what is waited for in the block has taken `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except TimeoutError:
        late = ", ".join(await unready(watch, containers)) or "it still runs"
        raise WaitFailed(
            f"not ready after {timeout:g} s: {late}",
            hint="look at their logs, or give more time with --wait-timeout",
        ) from None


async def unready(watch: ContainerWatch, containers: Collection[str]) -> list[str]:
    """`web-1 (health: starting)` for each that isn't ready, nor has ended well."""
    found = []
    for container in containers:
        try:
            details = await watch.engine.containers.inspect(container)
        except NotFound:
            continue
        health = health_since_start(details)
        if not details.running and details.exit_code == 0:
            continue
        if health not in ("", "healthy") or not details.running:
            found.append(f"{details.name} ({f'health: {health}' if health else details.status})")
    return found


async def _await_started(watch: ContainerWatch, container: str) -> None:
    details = await watch.look(container)
    state = watch.state(container)
    if state.status not in ("running", "restarting", "paused"):
        raise await death(watch, details.id, "is not running")


async def _await_healthy(watch: ContainerWatch, container: str) -> None:
    details = await watch.look(container)
    state = watch.state(container)
    if not details.health and details.running:
        raise WaitFailed(f"container {details.name} has no healthcheck")
    patience = asyncio.get_running_loop().time() + details.start_period
    while True:
        await watch.until(
            lambda: state.health in ("healthy", "unhealthy") or state.status != "running"
        )
        if state.status == "paused":
            await watch.until(lambda: state.status != "paused")
        elif state.status != "running":
            await _await_restart(watch, container, patience)
        elif state.health == "healthy":
            return
        elif state.health == "unhealthy":
            raise await illness(watch.engine, container)


async def _await_restart(watch: ContainerWatch, container: str, patience: float) -> None:
    """It ended. That is no failure as long as the engine starts it again and its start_period
    isn't over: a program may need several tries until its own dependencies are there."""
    details = await watch.look(container)
    state = watch.state(container)
    if state.status == "running":
        return
    if not details.restarting or asyncio.get_running_loop().time() >= patience:
        raise await death(watch, container)
    await watch.until(lambda: state.status not in ("exited", "restarting"))


async def _await_completed(watch: ContainerWatch, container: str) -> None:
    await watch.look(container)
    state = watch.state(container)
    while True:
        await watch.until(lambda: state.status in ("exited", "dead", "removed", "created"))
        if state.status == "exited" and state.exit_code == 0:
            return
        if state.status == "exited":
            details = await watch.look(container)
            if state.status == "exited" and not details.restarting:
                raise await death(watch, container)
        else:
            raise await death(watch, container)


async def _await_one_ready(
    watch: ContainerWatch, container: str, listener: Listener, settling: float
) -> None:
    details = await watch.look(container)
    state = watch.state(container)
    if state.status == "exited" and state.exit_code == 0:
        return
    if state.health == "healthy":
        return
    if state.health:
        with _told(listener, details, "healthy"):
            await _await_ready_by_check(watch, details)
        return
    # The engine's clock may be another machine's, so the time is taken from here on.
    if details.running and _is_old(details, settling):
        return
    with _told(listener, details, "up"):
        await _await_settled(watch, container, settling)


@contextlib.contextmanager
def _told(listener: Listener, details: ContainerDetails, wanted: str) -> Iterator[None]:
    labels = details.labels
    slot = names.slot(labels.get(names.SERVICE, details.name), names.number_of(labels))
    listener(Readying(slot, wanted, "working"))
    try:
        yield
    except WaitFailed as error:
        listener(Readying(slot, wanted, "failed", str(error).splitlines()[0]))
        raise
    listener(Readying(slot, wanted, "done"))


async def _await_settled(watch: ContainerWatch, container: str, settling: float) -> None:
    state = watch.state(container)
    try:
        async with asyncio.timeout(settling):
            await watch.until(lambda: state.status not in ("running", "paused"))
    except TimeoutError:
        return
    if state.status != "exited" or state.exit_code != 0:
        raise await death(watch, container)


async def _await_ready_by_check(watch: ContainerWatch, details: ContainerDetails) -> None:
    state = watch.state(details.id)
    try:
        await _await_healthy(watch, details.id)
    except WaitFailed:
        if state.status == "exited" and state.exit_code == 0:
            return  # a job that has a check, and is done
        raise


def _is_old(details: ContainerDetails, settling: float) -> bool:
    """Whether it has run for longer than that, if both clocks agree."""
    return time.time_ns() - details.started_at > settling * 1e9


async def death(watch: ContainerWatch, container: str, prefix: str = "") -> WaitFailed:
    """How it ended, and the end of its log."""
    engine = watch.engine
    try:
        details = await engine.containers.inspect(container)
    except NotFound:
        return WaitFailed(f"container {container[:12]} was removed while it was waited for")
    reason = "ran out of memory" if details.oom_killed else f"exited with code {details.exit_code}"
    if details.status == "created":
        reason = details.error or "was never started"
    middle = f"container {details.name} {reason}"
    lines = await log_end(engine, details)
    return WaitFailed(f"{prefix}: {middle}" if prefix else middle, details=lines)


async def illness(engine: Engine, container: str) -> WaitFailed:
    """What its check said, and the end of its log."""
    details = await engine.containers.inspect(container)
    failed = [probe for probe in details.probes if probe.exit_code != 0]
    lines = ["its check said:"]
    if failed:
        said = failed[-1].output.strip().splitlines()[-LOG_LINES:]
        lines = [f"its check ended with {failed[-1].exit_code}: {said[0] if said else ''}".rstrip()]
        lines += said[1:]
    return WaitFailed(
        f"container {details.name} is unhealthy",
        details=[*lines, "the end of its log:", *await log_end(engine, details)],
    )


async def log_end(engine: Engine, details: ContainerDetails) -> list[str]:
    """The last lines of a container's log, oldest first."""
    text = b""
    try:
        async for output in engine.containers.logs(
            details.id, tty=details.tty, tail=str(LOG_LINES)
        ):
            text += output.text
    except ApiError as error:
        return [f"(its log can't be read: {error.message})"]
    return text.decode("utf-8", "replace").splitlines()[-LOG_LINES:] or ["(its log is empty)"]
