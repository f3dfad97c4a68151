"""Limits of a container's resources: what the kernel can't keep, and what `update` makes of them.

Pure. Docker's rule for a limit that a kernel has no means for: the container runs without it, and
the answer to create or update says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from engine.containers.model import HostConfig, ResourceUpdate
from engine.errors import Conflict, InvalidRequest

_NO_LIMITS = HostConfig()
_LACKS = "Your kernel does not support {} or the cgroup is not mounted. {} discarded."


def fitted(host: HostConfig, *, unified: bool) -> tuple[HostConfig, tuple[str, ...]]:
    """Without the limits that cgroup v2 doesn't know, and warnings. Raises InvalidRequest for what
    nothing but a real-time group could give."""
    warnings: list[str] = []
    if unified:
        if host.oom_kill_disable:
            warnings.append(
                "Your kernel does not support OomKillDisable. OomKillDisable discarded."
            )
        if host.memory_swappiness not in (None, -1):
            warnings.append(_LACKS.format("memory swappiness capabilities", "Memory swappiness"))
        if host.kernel_memory_tcp:
            warnings.append(
                _LACKS.format("kernel memory TCP limit capabilities", "Kernel memory TCP limit")
            )
        if host.cpu_realtime_period or host.cpu_realtime_runtime:
            raise InvalidRequest("kernel does not support CPU real-time scheduler")
        host = replace(
            host,
            oom_kill_disable=None,
            memory_swappiness=None,
            kernel_memory_tcp=0,
        )
    if host.oom_kill_disable and not host.memory:
        warnings.append(
            "OOM killer is disabled for the container, but no memory limit is set, this can "
            "result in the system running out of resources."
        )
    return host, tuple(warnings)


def updated(host: HostConfig, change: ResourceUpdate) -> HostConfig:
    """Raises Conflict where a new limit contradicts one that stays. No limit of processes is 0."""
    host = replace(host, **{name: getattr(_NO_LIMITS, name) for name in change.unset})
    given = {
        name: value
        for name in ResourceUpdate.__dataclass_fields__
        if name != "unset" and (value := getattr(change, name)) is not None
    }
    for conflict in _CONFLICTS:
        if conflict.name in given and getattr(host, conflict.with_name):
            raise Conflict(
                f"Conflicting options: {conflict.said} cannot be updated as "
                f"{conflict.with_said} has already been set"
            )
    if change.memory and change.memory_swap is None and 0 < host.memory_swap < change.memory:
        raise Conflict(
            "Memory limit should be smaller than already set memoryswap limit, update the "
            "memoryswap at the same time"
        )
    after = replace(host, **given)
    return replace(
        after,
        memory_swap=after.memory_swap or 2 * after.memory,
        pids_limit=max(after.pids_limit, 0) if after.pids_limit is not None else None,
    )


def lifted(
    before: Mapping[str, object], after: Mapping[str, object], *, unified: bool
) -> dict[str, object]:
    """`after`, with a neutral value for each limit that only `before` has: to the kernel, what
    isn't written stays. Both are OCI resources."""
    found = dict(after)
    for name, neutral in _NEUTRAL.items():
        old, new = before.get(name, {}), after.get(name, {})
        assert isinstance(old, Mapping)
        assert isinstance(new, Mapping)
        if gone := {key: neutral[key] for key in neutral if key in old and key not in new}:
            if unified and "reservation" in gone:
                gone["reservation"] = 0  # -1 would protect all of it
            found[name] = {**new, **gone}
    return found


_NEUTRAL = {
    "memory": {"limit": -1, "swap": -1, "reservation": -1},
    "cpu": {"quota": -1, "period": 100_000, "shares": 1024},
    "pids": {"limit": -1},
}


@dataclass(frozen=True, slots=True)
class _Conflict:
    name: str
    with_name: str
    said: str
    with_said: str


_CONFLICTS = (
    _Conflict("nano_cpus", "cpu_period", "Nano CPUs", "CPU Period"),
    _Conflict("nano_cpus", "cpu_quota", "Nano CPUs", "CPU Quota"),
    _Conflict("cpu_period", "nano_cpus", "CPU Period", "NanoCPUs"),
    _Conflict("cpu_quota", "nano_cpus", "CPU Quota", "NanoCPUs"),
)
