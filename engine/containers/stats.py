"""What a container uses: the counters of its cgroup and its network interfaces at one moment."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.runtime.cgroup_counters import Counters


@dataclass(frozen=True, slots=True)
class InterfaceCounters:
    """As in /proc/net/dev."""

    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True, slots=True)
class Sample:
    """`counters` is None for a container that is down."""

    read: int  # nanoseconds since the epoch
    counters: Counters | None = None
    system_cpu: int = 0  # nanoseconds that all CPUs of the machine have worked or idled
    online_cpus: int = 0
    memory_limit: int = 0  # the container's, or the machine's memory
    networks: Mapping[str, InterfaceCounters] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stats:
    """`previous` is None for a first sample that nothing was waited for."""

    current: Sample
    previous: Sample | None = None


def take_sample(counters: Counters, pid: int) -> Sample:
    limit = counters.memory_limit
    machine = memory_total(Path("/proc/meminfo").read_text())
    return Sample(
        time.time_ns(),
        counters,
        system_cpu_time(Path("/proc/stat").read_text(), os.sysconf("SC_CLK_TCK")),
        os.cpu_count() or 1,
        machine if limit is None or limit < 0 else min(limit, machine),
        _interfaces(pid),
    )


def _interfaces(pid: int) -> Mapping[str, InterfaceCounters]:
    try:
        return parse_interfaces(Path(f"/proc/{pid}/net/dev").read_text().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return {}


def parse_interfaces(lines: Iterable[str]) -> dict[str, InterfaceCounters]:
    found = {}
    for line in lines:
        name, colon, numbers = line.partition(":")
        if not colon or name.strip() == "lo":
            continue
        values = [int(word) for word in numbers.split()]
        found[name.strip()] = InterfaceCounters(*values[:4], *values[8:12])
    return found


def system_cpu_time(stat: str, ticks_per_second: int) -> int:
    """Nanoseconds: user, nice, system, idle, iowait, irq, softirq of the first line, as Docker."""
    words = stat.partition("\n")[0].split()
    return sum(map(int, words[1:8])) * 1_000_000_000 // ticks_per_second


def memory_total(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0
