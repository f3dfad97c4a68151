"""pure: in which batches a service's containers are replaced, and until when each can be put back.

`deploy.update_config` and `rollback_config` (Compose specification, deploy.md) mean here what they
mean on Swarm: so many at a time, the next ones once these are up and the delay is over; what does
not come up stops it, or takes back all of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from compose.dataclass import dataclass
from compose.model.deploy import UpdateConfig
from compose.model.service import Service
from compose.plan import names
from compose.plan.actions import AwaitUpdate, Existing, Planned
from compose.plan.handover import monitor, update_config
from compose.plan.observed import ObservedContainer
from compose.plan.services import Recreate, ServiceDecision


@dataclass(frozen=True, slots=True)
class Batch:
    """`key`: of the step that waits for it; `previous`: of the one before it, "" for the first;
    `until`: after which of them the old containers are of no use any more; `undo`: what comes,
    where all is taken back, between the batch after this one and this one."""

    numbers: tuple[int, ...]  # of the containers
    key: str
    previous: str
    until: str
    action: AwaitUpdate
    undo: AwaitUpdate | None = None


def make_batches(decision: ServiceDecision) -> tuple[Batch, ...]:
    """None for a service that doesn't say how it is updated: all at once, waited for by nobody."""
    config = update_config(decision.service)
    if config is None:
        return ()
    name = decision.service.name
    old = {d.container.number: d.container for d in decision.decisions if isinstance(d, Recreate)}
    groups = list(_groups(list(old), config))
    keys = [_key(name, group) for group in groups]
    tolerated = math.floor(config.max_failure_ratio * len(old) + 1e-9)
    is_taken_back = config.failure_action == "rollback"
    found: list[Batch] = []
    for index, (group, key) in enumerate(zip(groups, keys, strict=True)):
        action = AwaitUpdate(
            name,
            tuple(Planned(names.slot(name, number)) for number in group),
            monitor=monitor(config),
            delay=0.0 if config.delay is None or key == keys[-1] else config.delay / 1e9,
            required=config.failure_action != "continue",
            tolerated=tolerated,
        )
        undo = None
        if is_taken_back and key != keys[-1]:
            undo = _between(decision.service, [old[number] for number in groups[index + 1]])
        until = keys[-1] if is_taken_back else key
        previous = found[-1].key if found else ""
        found.append(Batch(tuple(group), key, previous, until, action, undo))
    return tuple(found)


def _between(service: Service, back: Sequence[ObservedContainer]) -> AwaitUpdate:
    """That what has come back is up, before more is taken back."""
    config = (service.deploy.rollback_config if service.deploy else None) or UpdateConfig()
    return AwaitUpdate(
        service.name,
        tuple(Existing(container.id, container.name) for container in back),
        monitor=monitor(config),
        delay=config.delay / 1e9 if config.delay else 0.0,
    )


def _groups(numbers: Sequence[int], config: UpdateConfig) -> Iterator[Sequence[int]]:
    """One at a time where nothing is said; 0: all at once."""
    size = 1 if config.parallelism is None else config.parallelism or len(numbers) or 1
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _key(service: str, numbers: Sequence[int]) -> str:
    return f"await {', '.join(names.slot(service, number) for number in numbers)} updated"
