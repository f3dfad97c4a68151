"""Which objects a list shows and a prune takes. Pure: filters and facts -> yes or no."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.api.shown import port_list
from engine.containers.model import Record, Status
from engine.errors import InvalidRequest, NotFound
from engine.filters import Filters, matches_container_name, matches_name, parse_until
from engine.networks.model import Network
from engine.volumes.model import Volume

CONTAINER_FILTERS = frozenset(
    {
        *("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation"),
        *("label", "name", "network", "publish", "since", "status", "volume"),
    }
)
NETWORK_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})
VOLUME_FILTERS = frozenset({"dangling", "driver", "label", "name"})
PRUNE_FILTERS = frozenset({"label", "label!", "until"})
_HEALTH = ("none", "starting", "healthy", "unhealthy")


@dataclass(frozen=True, slots=True)
class ContainerFacts:
    """What a filter's value may refer to."""

    find: Callable[[str], Record | None]  # by name or id
    descends: Callable[[Record, str], bool]  # from the image of this name


def select_containers(
    records: tuple[Record, ...],
    filters: Filters,
    *,
    show_all: bool,
    limit: int,
    facts: ContainerFacts,
) -> tuple[Record, ...]:
    """`records` newest first, as they stay."""
    filters.check(CONTAINER_FILTERS)
    statuses = filters.choice("status", "state", [status.value for status in Status])
    wanted_health = filters.choice("health", "health", _HEALTH)
    exits = frozenset(_exit_code(value) for value in filters.get("exited"))
    earlier = _bound(records, filters, "before", facts)
    later = _bound(records, filters, "since", facts)
    tasks = filters.flag("is-task")

    checks: list[Callable[[Record], bool]] = [
        lambda record, key=key, holds=holds: filters.any(key, lambda value: holds(record, value))  # type: ignore[misc]
        for key, holds in _BY_VALUE.items()
        if key in filters
    ]
    if not show_all and limit <= 0 and statuses is None:
        checks.append(lambda record: is_running(record.state.status))
    if statuses is not None:
        checks.append(lambda record: record.state.status.value in statuses)
    if exits:
        checks.append(
            lambda record: record.state.status is Status.EXITED and record.state.exit_code in exits
        )
    if wanted_health is not None:
        checks.append(lambda record: health_of(record) in wanted_health)
    if "label" in filters:
        checks.append(lambda record: filters.labels(record.config.labels))
    if "ancestor" in filters:
        checks.append(
            lambda record: filters.any("ancestor", lambda value: facts.descends(record, value))
        )
    if earlier is not None:
        checks.append(lambda record: record.created < earlier.created)
    if later is not None:
        checks.append(lambda record: record.created > later.created)
    if tasks is True:
        return ()  # tasks are a swarm's
    # Clients ask all the time: only what is asked is looked at.
    found = tuple(record for record in records if all(check(record) for check in checks))
    return found[:limit] if limit > 0 else found


def is_running(status: Status) -> bool:
    return status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


def health_of(record: Record) -> str:
    return record.state.health.status if record.state.health else "none"


def _exit_code(value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise InvalidRequest(f"invalid filter 'exited={value}': it has to be a number") from None


def _bound(
    records: tuple[Record, ...], filters: Filters, key: str, facts: ContainerFacts
) -> Record | None:
    """The container that `before` or `since` names; of several the one that allows most."""
    named = [facts.find(value) for value in filters.get(key)]
    if any(record is None for record in named):
        missing = filters.get(key)[named.index(None)]
        raise NotFound(f"No such container: {missing}")
    chosen = sorted((one for one in named if one is not None), key=lambda one: one.created)
    if not chosen:
        return None
    return chosen[-1] if key == "before" else chosen[0]


def _is_on(record: Record, value: str) -> bool:
    return any(
        place.network == value or (place.network_id and place.network_id == value)
        for place in record.attachments
    )


def _mounts(record: Record, value: str) -> bool:
    return any(value in (mount.name, mount.destination.rstrip("/")) for mount in record.mounts)


def _has_port(record: Record, side: str, value: str) -> bool:
    found = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", value, re.ASCII)
    if not found:
        raise InvalidRequest(f"invalid filter: {value!r} is no port")
    low, high, protocol = int(found[1]), int(found[2] or found[1]), found[3] or "tcp"
    return any(
        isinstance(number := port.get(side), int)
        and low <= number <= high
        and port["Type"] == protocol
        for port in port_list(record)
    )


_BY_VALUE: Mapping[str, Callable[[Record, str], bool]] = {
    "name": lambda record, value: matches_container_name(record.name, value),
    "id": lambda record, value: record.id.startswith(value),
    "network": _is_on,
    "volume": _mounts,
    "publish": lambda record, value: _has_port(record, "PublicPort", value),
    "expose": lambda record, value: _has_port(record, "PrivatePort", value),
    "isolation": lambda record, value: True,  # it tells containers of Windows apart
}


def wanted_for_prune(
    filters: Filters, *, now: int, also: frozenset[str] = frozenset()
) -> Callable[[Mapping[str, str], int], bool]:
    """A predicate on labels and the time of creation, in nanoseconds."""
    filters.check(PRUNE_FILTERS | also)
    bounds = [parse_until(value, now) for value in filters.get("until")]
    if len(bounds) > 1:
        raise InvalidRequest("more than one until filter specified")

    def wanted(labels: Mapping[str, str], created: int) -> bool:
        return filters.labels(labels) and all(created < bound for bound in bounds)

    return wanted


def select_networks(
    networks: tuple[Network, ...], filters: Filters, *, is_used: Callable[[str], bool]
) -> tuple[Network, ...]:
    filters.check(NETWORK_FILTERS)
    dangling = filters.flag("dangling")
    kinds = filters.choice("type", "type", ("builtin", "custom"))

    def fits(network: Network) -> bool:
        return (
            filters.any("name", lambda value: matches_name(network.name, value))
            and filters.any("id", network.id.startswith)
            and filters.any("driver", lambda value: value == network.driver)
            and filters.any("scope", lambda value: value == network.scope)
            and filters.labels(network.labels)
            and (kinds is None or ("builtin" if network.predefined else "custom") in kinds)
            and (dangling is None or dangling is not (network.predefined or is_used(network.id)))
        )

    return tuple(network for network in networks if fits(network))


def select_volumes(
    volumes: tuple[Volume, ...], filters: Filters, *, is_used: Callable[[str], bool]
) -> tuple[Volume, ...]:
    filters.check(VOLUME_FILTERS)
    dangling = filters.flag("dangling")

    def fits(volume: Volume) -> bool:
        return (
            filters.any("name", lambda value: matches_name(volume.name, value))
            and filters.any("driver", lambda value: value == volume.driver)
            and filters.labels(volume.labels)
            and (dangling is None or dangling is not is_used(volume.name))
        )

    return tuple(volume for volume in volumes if fits(volume))
