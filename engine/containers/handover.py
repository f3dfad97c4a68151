"""Containers that share published ports take over from each other: one that starts is given work
once it can do it, and one that is to end ends once it has done what it was in the middle of.

Labels say for how long, in seconds: `io.pycompose.opens-after` of life without a health check,
`io.pycompose.drain` from the stop until the stop signal, at the most.
"""

from __future__ import annotations

import asyncio
import logging

from engine.containers import health
from engine.containers.container import Container
from engine.containers.model import ContainerConfig
from engine.containers.parts import Parts
from engine.networks.model import Standing
from engine.runtime.handle import Shim

log = logging.getLogger(__name__)

OPENS_AFTER = "io.pycompose.opens-after"
DRAIN = "io.pycompose.drain"
# Seconds between two looks at what is still open: the kernel tells nobody when a connection ends.
_LOOK = 0.05


def first_standing(config: ContainerConfig) -> Standing:
    """Of a container that is about to start."""
    is_checked = health.probe_of(config) is not None
    return Standing.STARTING if is_checked or _seconds(config, OPENS_AFTER) else Standing.READY


def open_later(parts: Parts, container: Container, shim: Shim) -> None:
    """It has started; where no health check tells when it is ready, its age does."""
    config = container.record.config
    wait = _seconds(config, OPENS_AFTER)
    if not wait or health.probe_of(config) is not None:
        return

    async def open_() -> None:
        await asyncio.sleep(wait)
        if container.shim is shim and not container.record.state.stopped_by_user:
            await parts.networks.regard(container.id, Standing.READY)

    parts.tasks.watch(open_(), f"opening the ports of {container.id}")


async def drain(parts: Parts, container: Container) -> None:
    """Return when no connection to a port that others have taken over is open any more, or the
    time is up, or the container is left alone with its ports."""
    limit = _seconds(container.record.config, DRAIN)
    if not limit or not any(binding.shared for binding in container.record.ports):
        return
    ended = container.run_ended
    try:
        async with asyncio.timeout(limit):
            while parts.networks.is_relieved(container.id) and not ended.is_set():
                # First of all the wait: what was on its way when the ports moved arrives in it.
                await asyncio.sleep(_LOOK)
                if not await parts.networks.has_connections(container.id):
                    return
    except TimeoutError:
        log.info("container %s: connections are open after %g s: stopping", container.id, limit)


def _seconds(config: ContainerConfig, label: str) -> float:
    """0 where there is none, or no number."""
    try:
        return max(0.0, float(config.labels.get(label, "0")))
    except ValueError:
        return 0.0
