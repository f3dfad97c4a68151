"""What a control group has used, in the words of neither version. Read by the daemon alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.runtime.cgroup_files import pairs, read
from engine.runtime.cgroup_tree import Cgroup


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one block device did for a group, by the kernel's names for it: "Read", "Sync", ... in
    v1, "read" and "write" in v2."""

    major: int
    minor: int
    transferred: Mapping[str, int]  # bytes
    operations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counters:
    """Raw numbers of one moment. None: this kernel does not count it; -1: no limit."""

    cpu_total: int  # nanoseconds, as the two below
    cpu_user: int
    cpu_system: int
    cpu_each: tuple[int, ...]  # empty on v2
    periods: int
    throttled_periods: int
    throttled: int  # nanoseconds
    memory_usage: int | None
    memory_peak: int | None
    memory_limit: int | None
    memory_failures: int | None
    memory: Mapping[str, int]  # memory.stat, with the kernel's names
    pids: int | None
    pids_limit: int | None
    devices: tuple[Throughput, ...]


def read_counters(group: Cgroup) -> Counters:
    """The numbers of now."""
    if group.hierarchy.is_v2:
        return _counters_v2(group.directories[0])
    return _counters_v1(group)


def _number(path: str) -> int | None:
    """The number in a file: -1 for "max", None where the kernel has no such file."""
    try:
        text = read(path).strip()
    except FileNotFoundError:
        return None
    return -1 if text == "max" else int(text)


def _optional_pairs(path: str) -> dict[str, int]:
    try:
        return pairs(read(path))
    except FileNotFoundError:
        return {}


def _counters_v2(directory: str) -> Counters:
    cpu = _optional_pairs(f"{directory}/cpu.stat")
    return Counters(
        cpu_total=cpu.get("usage_usec", 0) * 1000,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        cpu_each=(),
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled=cpu.get("throttled_usec", 0) * 1000,
        memory_usage=_number(f"{directory}/memory.current"),
        memory_peak=_number(f"{directory}/memory.peak"),
        memory_limit=_number(f"{directory}/memory.max"),
        # What Docker takes for failures here: allocations that no reclaiming helped.
        memory_failures=_optional_pairs(f"{directory}/memory.events").get("oom"),
        memory=_optional_pairs(f"{directory}/memory.stat"),
        pids=_number(f"{directory}/pids.current"),
        pids_limit=_number(f"{directory}/pids.max"),
        devices=_io_stat(f"{directory}/io.stat"),
    )


def _io_stat(path: str) -> tuple[Throughput, ...]:
    try:
        lines = read(path).splitlines()
    except FileNotFoundError:
        return ()
    found = []
    for line in lines:
        device, *words = line.split()
        major, _, minor = device.partition(":")
        counts = {key: int(value) for key, _, value in (w.partition("=") for w in words)}
        found.append(
            Throughput(
                int(major),
                int(minor),
                {"read": counts.get("rbytes", 0), "write": counts.get("wbytes", 0)},
                {"read": counts.get("rios", 0), "write": counts.get("wios", 0)},
            )
        )
    return tuple(found)


# v1's "no limit" is the largest page-aligned signed number.
_UNLIMITED_V1 = 1 << 62


def _counters_v1(group: Cgroup) -> Counters:
    accounting = group.find("cpuacct")
    cpu, memory, pids = group.find("cpu"), group.find("memory"), group.find("pids")
    bandwidth = _optional_pairs(f"{cpu}/cpu.stat") if cpu else {}
    user = system = total = 0
    each: tuple[int, ...] = ()
    if accounting:
        total = _number(f"{accounting}/cpuacct.usage") or 0
        each = tuple(int(word) for word in read(f"{accounting}/cpuacct.usage_percpu").split())
        # Clock ticks of 10 ms; usage_user and usage_sys have nanoseconds since Linux 4.6.
        user = _number(f"{accounting}/cpuacct.usage_user") or 0
        system = _number(f"{accounting}/cpuacct.usage_sys") or 0
    limit = _number(f"{memory}/memory.limit_in_bytes") if memory else None
    return Counters(
        cpu_total=total,
        cpu_user=user,
        cpu_system=system,
        cpu_each=each,
        periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled=bandwidth.get("throttled_time", 0),
        memory_usage=_number(f"{memory}/memory.usage_in_bytes") if memory else None,
        memory_peak=_number(f"{memory}/memory.max_usage_in_bytes") if memory else None,
        memory_limit=-1 if limit is not None and limit >= _UNLIMITED_V1 else limit,
        memory_failures=_number(f"{memory}/memory.failcnt") if memory else None,
        memory=_optional_pairs(f"{memory}/memory.stat") if memory else {},
        pids=_number(f"{pids}/pids.current") if pids else None,
        pids_limit=_number(f"{pids}/pids.max") if pids else None,
        devices=_throttle_counts(group.find("blkio")),
    )


def _throttle_counts(directory: str | None) -> tuple[Throughput, ...]:
    if directory is None:
        return ()
    files = ("io_service_bytes", "io_serviced")
    counts: dict[tuple[int, int], dict[str, dict[str, int]]] = {}
    for file in files:
        try:
            text = read(f"{directory}/blkio.throttle.{file}_recursive")
        except FileNotFoundError:
            continue
        for line in text.splitlines():
            words = line.split()
            if len(words) != 3:
                continue  # the sum at the end
            major, _, minor = words[0].partition(":")
            device = counts.setdefault((int(major), int(minor)), {name: {} for name in files})
            device[file][words[1]] = int(words[2])
    return tuple(
        Throughput(major, minor, *(found[name] for name in files))
        for (major, minor), found in sorted(counts.items())
    )
