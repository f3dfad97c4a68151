"""The daemon's start: containers that their policy brings back come in the order that their project
declares. Docker starts them all at once.

The label `com.docker.compose.depends_on` says what a container waits for, as Compose writes it:
`db:service_healthy:false,cache:service_started:true`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from engine.containers import health, supervise
from engine.containers.container import Container
from engine.containers.model import Record
from engine.containers.parts import Parts

log = logging.getLogger(__name__)

DEPENDS_ON = "com.docker.compose.depends_on"
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
HEALTHY = "service_healthy"
# Seconds that one waits for others: what it needs may never come, and then it is as after a crash.
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Need:
    container: Container
    is_healthy: bool  # not only started


def needs(record: Record, everybody: Sequence[Container]) -> Iterator[Need]:
    """What it waits for: of jobs that are done nothing, they aren't run again."""
    labels = record.config.labels
    conditions = parse_conditions(labels.get(DEPENDS_ON, ""))
    for other in everybody:
        theirs = other.record.config.labels
        condition = conditions.get(theirs.get(SERVICE, ""))
        if condition is None or theirs.get(PROJECT) != labels.get(PROJECT):
            continue
        is_checked = health.probe_of(other.record.config) is not None
        yield Need(other, condition == HEALTHY and is_checked)


def parse_conditions(label: str) -> Mapping[str, str]:
    """Service -> condition. What can't be read counts as nothing."""
    found = {}
    for entry in filter(None, label.split(",")):
        service, _, rest = entry.partition(":")
        found[service] = rest.partition(":")[0]
    return found


@dataclass(slots=True)
class Startup:
    """`begun`: by container, set once it has been started or can't be."""

    parts: Parts
    begun: dict[str, asyncio.Event] = field(default_factory=dict)

    def begin(self, everybody: Sequence[Container]) -> None:
        coming = [each for each in everybody if supervise.comes_back(self.parts, each)]
        self.begun = {each.id: asyncio.Event() for each in coming}
        for container in coming:
            wanted = tuple(needs(container.record, everybody))
            work = self._start(container, wanted)
            self.parts.tasks.start(work, f"starting {container.id}")

    async def _start(self, container: Container, wanted: Sequence[Need]) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                for need in wanted:
                    await self._met(need)
        except TimeoutError:
            log.warning("container %s starts before what it needs is ready", container.id)
        try:
            await supervise.start_with_daemon(self.parts, container)
        finally:
            self.begun[container.id].set()

    async def _met(self, need: Need) -> None:
        if (begun := self.begun.get(need.container.id)) is not None:
            await begun.wait()
        if not need.is_healthy:
            return
        with self.parts.events.subscribe(
            wanted=lambda event: event.id == need.container.id
        ) as told:
            if _is_settled(need.container.record):
                return
            async for _ in told:
                if _is_settled(need.container.record):
                    return


def _is_settled(record: Record) -> bool:
    """Healthy; or down, so that nobody knows when it will be."""
    state = record.state
    return not state.status.is_up or (state.health is not None and state.health.status == "healthy")
