"""pure: how a service's containers are replaced, some at a time.

`deploy.update_config` and `rollback_config` mean here what they mean on Swarm, defaults included;
`apply/rollout.py` does what they say.
"""

from __future__ import annotations

from compose.model.deploy import UpdateConfig
from compose.model.service import Service
from compose.plan.actions import Pace
from compose.plan.handover import monitor


def update_pace(service: Service) -> Pace | None:
    """None for a service that doesn't say how it is updated: all at once, watched by nobody."""
    config = service.deploy.update_config if service.deploy else None
    return None if config is None else make_pace(config)


def rollback_pace(service: Service) -> Pace:
    config = service.deploy.rollback_config if service.deploy else None
    return make_pace(config or UpdateConfig())


def make_pace(config: UpdateConfig) -> Pace:
    return Pace(
        parallelism=1 if config.parallelism is None else config.parallelism,
        delay=config.delay / 1e9 if config.delay else 0.0,
        failure_action=config.failure_action or "pause",
        monitor=monitor(config),
        max_failure_ratio=config.max_failure_ratio,
        start_first=config.order == "start-first",
    )


def waits_for_turn(slots: tuple[str, ...], pace: Pace) -> dict[str, str]:
    """Slot -> the one that it comes after, as long as all of them take the same time."""
    size = pace.parallelism or len(slots)
    return dict(zip(slots[size:], slots, strict=False))
