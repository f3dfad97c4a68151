"""pure: a sample of the engine's stats as the columns of `docker stats`."""

from __future__ import annotations

from collections.abc import Mapping

from compose.client import fields
from compose.client.human import human_size
from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Bytes, but for the processor (percent of one core) and the number of processes."""

    processor: float
    memory: int
    memory_limit: int
    received: int
    sent: int
    read: int
    written: int
    processes: int

    @property
    def memory_percent(self) -> float:
        return self.memory / self.memory_limit * 100 if self.memory_limit else 0.0

    def cells(self) -> dict[str, str]:
        """By the keys of `docker stats --format json`, in the order of its table."""
        memory = (human_size(self.memory, base=1024), human_size(self.memory_limit, base=1024))
        return {
            "CPUPerc": f"{self.processor:.2f}%",
            "MemUsage": " / ".join(memory),
            "MemPerc": f"{self.memory_percent:.2f}%",
            "NetIO": f"{human_size(self.received)} / {human_size(self.sent)}",
            "BlockIO": f"{human_size(self.read)} / {human_size(self.written)}",
            "PIDs": str(self.processes),
        }


# What a container is shown with that does not run.
NOTHING = Usage(0.0, 0, 0, 0, 0, 0, 0, 0)


def usage(sample: Mapping[str, object]) -> Usage:
    memory = fields.child(sample, "memory_stats")
    interfaces = [
        fields.mapping(interface, "networks")
        for interface in fields.child(sample, "networks").values()
    ]
    read, written = _blocks(fields.child(sample, "blkio_stats"))
    return Usage(
        processor=_processor(sample),
        memory=_memory(memory),
        memory_limit=fields.number(memory, "limit", 0),
        received=sum(fields.number(row, "rx_bytes", 0) for row in interfaces),
        sent=sum(fields.number(row, "tx_bytes", 0) for row in interfaces),
        read=read,
        written=written,
        processes=fields.number(fields.child(sample, "pids_stats"), "current", 0),
    )


def _processor(sample: Mapping[str, object]) -> float:
    """What it used of the time that all cores had since the sample before, times the cores."""
    now, before = fields.child(sample, "cpu_stats"), fields.child(sample, "precpu_stats")

    def used(stats: Mapping[str, object]) -> int:
        return fields.number(fields.child(stats, "cpu_usage"), "total_usage", 0)

    def passed(stats: Mapping[str, object]) -> int:
        return fields.number(stats, "system_cpu_usage", 0)

    duration = passed(now) - passed(before)
    if not passed(before) or duration <= 0:
        return 0.0
    return max(0, used(now) - used(before)) / duration * fields.number(now, "online_cpus", 1) * 100


def _memory(memory: Mapping[str, object]) -> int:
    """Without the page cache that the kernel can take back, as Docker's CLI counts."""
    used, details = fields.number(memory, "usage", 0), fields.child(memory, "stats")
    for key in ("total_inactive_file", "inactive_file"):  # cgroup v1, v2
        cache = fields.number(details, key, 0)
        if 0 < cache < used:
            return used - cache
    return used


def _blocks(stats: Mapping[str, object]) -> tuple[int, int]:
    read = written = 0
    for row in fields.children(stats, "io_service_bytes_recursive"):
        match fields.text(row, "op", "").lower():
            case "read":
                read += fields.number(row, "value", 0)
            case "write":
                written += fields.number(row, "value", 0)
    return read, written
