"""pure: in which batches a service's containers are replaced, and until when each can be put back.

`deploy.update_config` (Compose specification, deploy.md) means here what it means on Swarm: so many
at a time, the next ones once these are up and the delay is over; what does not come up stops it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from compose.dataclass import dataclass
from compose.model.deploy import UpdateConfig
from compose.plan import names
from compose.plan.actions import AwaitUpdate, Planned
from compose.plan.services import Recreate, ServiceDecision

MONITOR = 5.0  # seconds, as on Swarm


@dataclass(frozen=True, slots=True)
class Batch:
    """`key`: of the step that waits for it; `previous`: of the one before it, "" for the first;
    `until`: after which of them the old containers are of no use any more."""

    numbers: tuple[int, ...]  # of the containers
    key: str
    previous: str
    until: str
    action: AwaitUpdate


def make_batches(decision: ServiceDecision) -> tuple[Batch, ...]:
    """None for a service that doesn't say how it is updated: all at once, waited for by nobody."""
    deploy = decision.service.deploy
    config = deploy.update_config if deploy else None
    if config is None:
        return ()
    numbers = [each.container.number for each in decision.decisions if isinstance(each, Recreate)]
    found: list[Batch] = []
    groups = list(_groups(numbers, config))
    keys = [_key(decision.service.name, group) for group in groups]
    for group, key in zip(groups, keys, strict=True):
        until = keys[-1] if config.failure_action == "rollback" else key
        previous = found[-1].key if found else ""
        is_last = key == keys[-1]
        action = _action(decision.service.name, group, config, is_last=is_last)
        found.append(Batch(tuple(group), key, previous, until, action))
    return tuple(found)


def _groups(numbers: Sequence[int], config: UpdateConfig) -> Iterator[Sequence[int]]:
    """One at a time where nothing is said; 0: all at once."""
    size = 1 if config.parallelism is None else config.parallelism or len(numbers) or 1
    for start in range(0, len(numbers), size):
        yield numbers[start : start + size]


def _key(service: str, numbers: Sequence[int]) -> str:
    return f"await {', '.join(names.slot(service, number) for number in numbers)} updated"


def _action(
    service: str, numbers: Sequence[int], config: UpdateConfig, *, is_last: bool
) -> AwaitUpdate:
    return AwaitUpdate(
        service,
        tuple(Planned(names.slot(service, number)) for number in numbers),
        monitor=MONITOR if config.monitor is None else config.monitor / 1e9,
        delay=0.0 if config.delay is None or is_last else config.delay / 1e9,
        required=config.failure_action != "continue",
    )
