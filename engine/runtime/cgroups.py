"""OCI `linux.resources` -> what to write into which file of which controller, on v1 and v2.

Pure; `cgroup_tree` does the writing. The order of the settings is the order of the writes.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, log2

from engine.errors import InvalidRequest, Unsupported

Settings = dict[str, list["Setting"]]


@dataclass(frozen=True, slots=True)
class Setting:
    """One write. Where the kernel has no such file, or a block device nothing that would heed it,
    `instead` is written (None: refuse)."""

    file: str
    value: str
    instead: tuple["Setting", ...] | None = None


@dataclass(frozen=True, slots=True)
class DeviceRule:
    """A line of linux.resources.devices; None is any number. A later rule wins."""

    allow: bool
    kind: str  # a, b or c
    major: int | None
    minor: int | None
    access: str

    def v1(self) -> Setting:
        numbers = ":".join("*" if n is None else str(n) for n in (self.major, self.minor))
        # "a" alone also empties the list of exceptions; with numbers it would not.
        value = "a" if self.is_everything else f"{self.kind} {numbers} {self.access}"
        return Setting("devices.allow" if self.allow else "devices.deny", value)

    @property
    def is_everything(self) -> bool:
        return self.kind == "a" and self.major is None and self.minor is None


def v1_settings(
    resources: Mapping[str, object], controllers: Collection[str] | None = None
) -> Settings:
    """{controller: settings} for v1 hierarchies, of `controllers` only (None: all known).

    Raises InvalidRequest and Unsupported.
    """
    if resources.get("unified"):
        raise Unsupported("cannot set unified resources: this machine has cgroup v1")
    return _chosen(_V1, resources, controllers)


def v2_settings(
    resources: Mapping[str, object], controllers: Collection[str] | None = None
) -> Settings:
    """The same for the unified hierarchy, without the devices: they are a BPF program there."""
    settings = _chosen(_V2, resources, controllers)
    for file, value in _section(resources, "unified").items():
        controller, dot, _ = file.partition(".")
        if not dot or "/" in file or not isinstance(value, str):
            raise InvalidRequest(f"invalid unified resource {file!r}")
        settings.setdefault(controller, []).append(Setting(file, value))
    return settings


def device_rules(resources: Mapping[str, object]) -> tuple[DeviceRule, ...] | None:
    """The device list, None where `resources` says nothing of devices."""
    global _last_list
    listed = resources.get("devices")
    if listed is None:
        return None
    # Mostly it is that of the container before.
    if _last_list[0] != listed:
        _last_list = listed, tuple(_device_rule(item) for item in _items(listed, "devices"))
    return _last_list[1]


_last_list: tuple[object, tuple[DeviceRule, ...]] = (None, ())


def cpu_weight(shares: int) -> int:
    """v1 cpu.shares (2..262144) as v2 cpu.weight (1..10000).

    A curve through (2, 1), (1024, 100) and (262144, 10000): the older straight line made 39 of
    the default 1024, so that a container lost to every group with the default weight.
    """
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    exponent = log2(shares)
    return ceil(10 ** ((exponent * exponent + 125 * exponent) / 612 - 7 / 34))


def io_weight(blkio_weight: int) -> int:
    """v1 blkio.weight (10..1000) as v2 io.weight (1..10000)."""
    return 1 + (blkio_weight - 10) * 9999 // 990


def swap_limit(memory: int | None, memory_and_swap: int | None) -> int | None:
    """Docker's rule for --memory-swap, memory and swap in one number: unset or 0 is twice the
    memory limit, -1 unlimited. Raises InvalidRequest for what contradicts itself."""
    limited = memory is not None and memory > 0
    if not memory_and_swap:
        return 2 * memory if limited and memory is not None else None
    if memory_and_swap == -1:
        return -1
    if not limited or memory is None:
        raise InvalidRequest("You should always set the Memory limit when using Memoryswap limit")
    if memory_and_swap < memory:
        raise InvalidRequest("Minimum memoryswap limit should be larger than memory limit")
    return memory_and_swap


# --- memory -----------------------------------------------------------------------------------


def _memory_v1(resources: Mapping[str, object]) -> list[Setting]:
    memory = _section(resources, "memory")
    _refuse(memory, "kernel", "kernel memory limits are gone from Linux")
    limit = _number(memory, "limit")
    swap = swap_limit(limit, _number(memory, "swap"))
    settings = []
    if limit:
        settings.append(Setting("memory.limit_in_bytes", str(limit)))
    if swap is not None:
        # A kernel without swap accounting has no such file: limited without swap, as Docker.
        settings.append(Setting("memory.memsw.limit_in_bytes", str(swap), instead=()))
    settings += _plain(memory, "reservation", "memory.soft_limit_in_bytes")
    settings += _plain(memory, "kernelTCP", "memory.kmem.tcp.limit_in_bytes")
    settings += _plain(memory, "swappiness", "memory.swappiness")
    if memory.get("disableOOMKiller") is True:
        settings.append(Setting("memory.oom_control", "1"))
    return settings


def _memory_v2(resources: Mapping[str, object]) -> list[Setting]:
    memory = _section(resources, "memory")
    _refuse(memory, "kernel", "kernel memory limits are gone from Linux")
    _refuse(memory, "kernelTCP", "cgroup v2 counts it as memory")
    _refuse(memory, "disableOOMKiller", "cgroup v2 has no such switch")
    _refuse(memory, "swappiness", "cgroup v2 has no swappiness of a group", unless=60)
    limit = _number(memory, "limit")
    swap = swap_limit(limit, _number(memory, "swap"))
    settings = []
    if limit:
        settings.append(Setting("memory.max", _or_max(limit)))
    if swap is not None:
        # v2 counts swap alone. No file: no swap accounting, limited without swap, as Docker.
        alone = swap if swap == -1 else swap - (limit or 0)
        value = "max" if alone == -1 else str(alone)
        settings.append(Setting("memory.swap.max", value, instead=()))
    reservation = _number(memory, "reservation")
    if reservation is not None:
        settings.append(Setting("memory.low", "max" if reservation < 0 else str(reservation)))
    return settings


# --- cpu --------------------------------------------------------------------------------------


def _cpu_v1(resources: Mapping[str, object]) -> list[Setting]:
    cpu = _section(resources, "cpu")
    return [
        *_plain(cpu, "shares", "cpu.shares"),
        *_plain(cpu, "period", "cpu.cfs_period_us"),
        *_plain(cpu, "quota", "cpu.cfs_quota_us"),
        *_plain(cpu, "burst", "cpu.cfs_burst_us"),
        *_plain(cpu, "realtimePeriod", "cpu.rt_period_us"),
        *_plain(cpu, "realtimeRuntime", "cpu.rt_runtime_us"),
        *_plain(cpu, "idle", "cpu.idle"),
    ]


def _cpu_v2(resources: Mapping[str, object]) -> list[Setting]:
    cpu = _section(resources, "cpu")
    _refuse(cpu, "realtimePeriod", "cgroup v2 has no real-time groups")
    _refuse(cpu, "realtimeRuntime", "cgroup v2 has no real-time groups")
    settings = _plain(cpu, "idle", "cpu.idle")
    shares = _number(cpu, "shares")
    if shares:
        settings.append(Setting("cpu.weight", str(cpu_weight(shares))))
    quota, period = _number(cpu, "quota"), _number(cpu, "period")
    if quota or period:
        bandwidth = str(quota) if quota and quota > 0 else "max"
        settings.append(Setting("cpu.max", f"{bandwidth} {period or 100_000}"))
    settings += _plain(cpu, "burst", "cpu.max.burst")
    return settings


def _cpuset(resources: Mapping[str, object]) -> list[Setting]:
    cpu = _section(resources, "cpu")
    return [
        Setting(f"cpuset.{field}", value)
        for field in ("cpus", "mems")
        if (value := _text(cpu, field))
    ]


# --- the rest ---------------------------------------------------------------------------------


def _pids(resources: Mapping[str, object]) -> list[Setting]:
    limit = _number(_section(resources, "pids"), "limit")
    return [Setting("pids.max", _or_max(limit))] if limit else []


def _blkio_v1(resources: Mapping[str, object]) -> list[Setting]:
    block = _section(resources, "blockIO")
    settings = []
    weight = _number(block, "weight")
    if weight:
        plain = Setting("blkio.weight", str(weight))
        settings.append(Setting("blkio.bfq.weight", str(weight), instead=(plain,)))
    settings += _plain(block, "leafWeight", "blkio.leaf_weight")
    for device, entry in _devices(block, "weightDevice"):
        value = f"{device} {_number(entry, 'weight') or 0}"
        # Of a device that nobody shares out, a share is no wish that could fail: as Docker.
        plain = Setting("blkio.weight_device", value, instead=())
        settings.append(Setting("blkio.bfq.weight_device", value, instead=(plain,)))
    for field, file in (
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device"),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device"),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device"),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device"),
    ):
        for device, entry in _devices(block, field):
            settings.append(Setting(file, f"{device} {_number(entry, 'rate') or 0}"))
    return settings


def _io_v2(resources: Mapping[str, object]) -> list[Setting]:
    block = _section(resources, "blockIO")
    _refuse(block, "leafWeight", "cgroup v2 has no leaf weight")
    settings = []
    weight = _number(block, "weight")
    if weight:
        plain = Setting("io.weight", f"default {io_weight(weight)}")
        settings.append(Setting("io.bfq.weight", str(weight), instead=(plain,)))
    for device, entry in _devices(block, "weightDevice"):
        share = _number(entry, "weight") or 0
        # As above.
        plain = Setting("io.weight", f"{device} {io_weight(share)}", instead=())
        settings.append(Setting("io.bfq.weight", f"{device} {share}", instead=(plain,)))
    for field, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device, entry in _devices(block, field):
            rate = _number(entry, "rate") or 0
            settings.append(Setting("io.max", f"{device} {key}={rate or 'max'}"))
    return settings


def _hugetlb(resources: Mapping[str, object], suffix: str) -> list[Setting]:
    settings = []
    for entry in _items(resources.get("hugepageLimits") or (), "hugepageLimits"):
        size, limit = _text(entry, "pageSize"), _number(entry, "limit")
        if not size.isalnum() or limit is None:
            raise InvalidRequest(f"invalid huge page limit {entry!r}")
        settings.append(Setting(f"hugetlb.{size}.{suffix}", str(limit)))
        # Reservations count too where the kernel can tell them apart.
        settings.append(Setting(f"hugetlb.{size}.rsvd.{suffix}", str(limit), instead=()))
    return settings


def _rdma(resources: Mapping[str, object]) -> list[Setting]:
    settings = []
    for device, entry in _section(resources, "rdma").items():
        if not isinstance(entry, Mapping):
            raise InvalidRequest(f"invalid rdma limit of {device!r}")
        words = [device]
        for field, key in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object")):
            limit = _number(entry, field)
            if limit is not None:
                words.append(f"{key}={limit}")
        settings.append(Setting("rdma.max", " ".join(words)))
    return settings


def _class_id(resources: Mapping[str, object]) -> list[Setting]:
    return _plain(_section(resources, "network"), "classID", "net_cls.classid")


def _priorities(resources: Mapping[str, object]) -> list[Setting]:
    listed = _section(resources, "network").get("priorities") or ()
    return [
        Setting("net_prio.ifpriomap", f"{_text(entry, 'name')} {_number(entry, 'priority') or 0}")
        for entry in _items(listed, "priorities")
    ]


def _devices_v1(resources: Mapping[str, object]) -> list[Setting]:
    return [_line(rule) for rule in device_rules(resources) or ()]


_line = lru_cache(maxsize=256)(DeviceRule.v1)  # mostly the same dozen


_Table = Mapping[str, Callable[[Mapping[str, object]], list[Setting]]]

_V1: _Table = {
    "devices": _devices_v1,
    "cpuset": _cpuset,
    "memory": _memory_v1,
    "cpu": _cpu_v1,
    "pids": _pids,
    "blkio": _blkio_v1,
    "hugetlb": lambda resources: _hugetlb(resources, "limit_in_bytes"),
    "rdma": _rdma,
    "net_cls": _class_id,
    "net_prio": _priorities,
}

# net_cls and net_prio are here so that a wish for them is refused, not overheard.
_V2: _Table = {
    "cpuset": _cpuset,
    "memory": _memory_v2,
    "cpu": _cpu_v2,
    "pids": _pids,
    "io": _io_v2,
    "hugetlb": lambda resources: _hugetlb(resources, "max"),
    "rdma": _rdma,
    "net_cls": _class_id,
    "net_prio": _priorities,
}


def _chosen(
    table: _Table, resources: Mapping[str, object], controllers: Collection[str] | None
) -> Settings:
    return {
        controller: settings
        for controller, make in table.items()
        if (controllers is None or controller in controllers) and (settings := make(resources))
    }


# --- decoding ---------------------------------------------------------------------------------


def _device_rule(entry: Mapping[str, object]) -> DeviceRule:
    kind = _text(entry, "type") or "a"
    access = _text(entry, "access") or "rwm"
    if kind not in ("a", "b", "c") or set(access) - set("rwm"):
        raise InvalidRequest(f"invalid device rule {dict(entry)!r}")
    major, minor = _number(entry, "major"), _number(entry, "minor")
    return DeviceRule(
        allow=entry.get("allow") is True,
        kind=kind,
        # runtime-spec says "unset is all"; -1 is what older writers put there.
        major=None if major is None or major < 0 else major,
        minor=None if minor is None or minor < 0 else minor,
        access=access,
    )


def _section(mapping: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = mapping.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"invalid resources: {key} is no object: {value!r}")
    return value


def _items(value: object, key: str) -> list[Mapping[str, object]]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(x, Mapping) for x in value):
        raise InvalidRequest(f"invalid resources: {key} is no list of objects: {value!r}")
    return list(value)


def _devices(block: Mapping[str, object], key: str) -> list[tuple[str, Mapping[str, object]]]:
    return [
        (f"{_number(entry, 'major') or 0}:{_number(entry, 'minor') or 0}", entry)
        for entry in _items(block.get(key) or (), key)
    ]


def _number(mapping: Mapping[str, object], key: str) -> int | None:
    value = mapping.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidRequest(f"invalid resources: {key} is no whole number: {value!r}")
    return value


def _text(mapping: Mapping[str, object], key: str) -> str:
    value = mapping.get(key, "")
    if not isinstance(value, str):
        raise InvalidRequest(f"invalid resources: {key} is no text: {value!r}")
    return value


def _plain(mapping: Mapping[str, object], key: str, file: str) -> list[Setting]:
    value = _number(mapping, key)
    return [] if value is None else [Setting(file, str(value))]


def _refuse(
    mapping: Mapping[str, object], key: str, reason: str, *, unless: int | None = None
) -> None:
    value = mapping.get(key)
    if value and value != unless:
        raise Unsupported(f"cannot set {key}: {reason}")


def _or_max(limit: int) -> str:
    return str(limit) if limit > 0 else "max"
