"""`update`: new limits and a new restart policy, for a container that runs or that is down."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from engine.containers import checks, limits
from engine.containers.container import Container
from engine.containers.machine import with_block_devices
from engine.containers.model import HostConfig, Record, ResourceUpdate, Status
from engine.containers.parts import Parts
from engine.containers.spec import resources
from engine.errors import Conflict, EngineError, Failure, InvalidRequest, about

# What a container was made from, by whoever made it; and which of its limits were changed since
# by somebody else: for tools that have to know whether it still is as declared.
RECORD = "io.pycompose.service"
EDITED = "io.pycompose.edited"
_OWN_LABELS = ("io.pycompose.", "com.docker.compose.")


async def update(
    parts: Parts, container: Container, change: ResourceUpdate, labels: Mapping[str, str]
) -> tuple[str, ...]:
    """Warnings. `labels`: new values, of the labels that are bookkeeping of pycompose alone."""
    for name in labels:
        if not name.startswith(_OWN_LABELS):
            raise InvalidRequest(f"label {name!r} of a container can't be changed")
    async with container.held():
        record = container.record
        if container.is_being_removed or record.state.status is Status.DEAD:
            raise Conflict('Container is marked for removal and cannot be "update".')
        with about(f"Cannot update container {record.id}"):
            after, warnings = limits.fitted(
                limits.updated(record.host, change), unified=parts.hierarchy.is_v2
            )
        machine = parts.machine
        checks.check_resources(after, cpus=machine.cpus, memory_nodes=machine.memory_nodes)
        checks.check_restart_policy(after.restart_policy, auto_remove=False)
        with about(f"Cannot update container {record.id}"):
            _check_removal(record.host, change)
            if record.state.status.is_up:
                await asyncio.to_thread(_limit, parts, container, after)
        config = replace(record.config, labels=_relabelled(record, after, labels))
        container.record = replace(record, host=after, config=config)
        await asyncio.to_thread(parts.store.commit, container.record)
        parts.publish(container.record, "update")
    return warnings


def _relabelled(record: Record, after: HostConfig, labels: Mapping[str, str]) -> dict[str, str]:
    found = {**record.config.labels, **labels}
    if RECORD in labels:
        found.pop(EDITED, None)
    elif RECORD in found:
        before = record.host
        names = HostConfig.__dataclass_fields__
        edited = {name for name in names if getattr(before, name) != getattr(after, name)}
        edited.update(filter(None, found.get(EDITED, "").split(",")))
        if edited:
            found[EDITED] = ",".join(sorted(edited))
    return found


def _check_removal(host: HostConfig, change: ResourceUpdate) -> None:
    if change.restart_policy is not None and host.auto_remove:
        raise InvalidRequest(
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        )


def _limit(parts: Parts, container: Container, after: HostConfig) -> None:
    """Blocks: the kernel may have to reclaim memory. What it refuses changes nothing."""
    cgroup, before = parts.cgroup(container.record), container.record.host
    unified = parts.hierarchy.is_v2
    try:
        cgroup.update(limits.lifted(_limits(before), _limits(after), unified=unified))
    except (OSError, EngineError) as error:
        cgroup.update(limits.lifted(_limits(after), _limits(before), unified=unified))
        if isinstance(error, EngineError):
            raise
        raise Failure(str(error)) from error


def _limits(host: HostConfig) -> dict[str, object]:
    """All but the devices."""
    found = resources(with_block_devices(host), ())
    del found["devices"]
    return found
