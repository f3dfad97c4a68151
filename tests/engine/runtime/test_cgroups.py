from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidRequest, Unsupported
from engine.runtime.cgroups import (
    Settings,
    cpu_weight,
    io_weight,
    swap_limit,
    v1_settings,
    v2_settings,
)

MIB = 1 << 20


def text(settings: Settings) -> list[str]:
    return [f"{s.file} {s.value}" for listed in settings.values() for s in listed]


def v1(**resources: object) -> list[str]:
    return text(v1_settings(resources))


def v2(**resources: object) -> list[str]:
    return text(v2_settings(resources))


def test_no_wish_writes_nothing() -> None:
    assert v1() == v2() == []
    assert v1(memory={}, cpu={}, pids={"limit": 0}, blockIO={}) == []


def test_memory_limit_brings_as_much_swap() -> None:
    assert v1(memory={"limit": 64 * MIB}) == [
        f"memory.limit_in_bytes {64 * MIB}",
        f"memory.memsw.limit_in_bytes {128 * MIB}",
    ]
    assert v2(memory={"limit": 64 * MIB}) == [
        f"memory.max {64 * MIB}",
        f"memory.swap.max {64 * MIB}",
    ]


def test_swap_may_be_unlimited_or_none() -> None:
    assert v1(memory={"limit": MIB, "swap": -1})[1] == "memory.memsw.limit_in_bytes -1"
    assert v2(memory={"limit": MIB, "swap": -1})[1] == "memory.swap.max max"
    assert v2(memory={"limit": MIB, "swap": MIB})[1] == "memory.swap.max 0"


@pytest.mark.parametrize(
    ("memory", "swap", "limit"),
    [(None, None, None), (MIB, 0, 2 * MIB), (MIB, MIB, MIB), (MIB, -1, -1), (None, -1, -1)],
)
def test_swap_limit_follows_docker(memory: int | None, swap: int | None, limit: int | None) -> None:
    assert swap_limit(memory, swap) == limit


def test_swap_that_contradicts_memory_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="set the Memory limit"):
        swap_limit(None, MIB)
    with pytest.raises(InvalidRequest, match="larger than memory limit"):
        swap_limit(2 * MIB, MIB)


def test_memory_reservation_and_unlimited() -> None:
    assert v1(memory={"reservation": MIB}) == [f"memory.soft_limit_in_bytes {MIB}"]
    assert v2(memory={"limit": -1, "reservation": MIB}) == ["memory.max max", f"memory.low {MIB}"]


def test_cpu_bandwidth() -> None:
    assert v1(cpu={"quota": 50_000, "period": 100_000}) == [
        "cpu.cfs_period_us 100000",
        "cpu.cfs_quota_us 50000",
    ]
    assert v2(cpu={"quota": 50_000}) == ["cpu.max 50000 100000"]
    assert v2(cpu={"quota": -1, "period": 20_000}) == ["cpu.max max 20000"]


def test_cpuset_and_pids_are_alike_on_both() -> None:
    wish = {"cpu": {"cpus": "0-1", "mems": "0"}, "pids": {"limit": 100}}
    assert v1(**wish) == v2(**wish) == ["cpuset.cpus 0-1", "cpuset.mems 0", "pids.max 100"]
    assert v1(pids={"limit": -1}) == ["pids.max max"]


def test_shares_become_weights() -> None:
    assert [cpu_weight(shares) for shares in (0, 2, 1024, 262144, 10**9)] == [
        1,
        1,
        100,
        10000,
        10000,
    ]
    assert [io_weight(weight) for weight in (10, 500, 1000)] == [1, 4950, 10000]


@given(st.integers(2, 262144), st.integers(2, 262144))
def test_more_shares_never_weigh_less(one: int, other: int) -> None:
    low, high = sorted((one, other))
    assert 1 <= cpu_weight(low) <= cpu_weight(high) <= 10000


def test_block_limits() -> None:
    device = {"major": 8, "minor": 16}
    wish: Mapping[str, object] = {
        "weight": 500,
        "weightDevice": [{**device, "weight": 10}],
        "throttleReadBpsDevice": [{**device, "rate": MIB}],
        "throttleWriteIOPSDevice": [{**device, "rate": 0}],
    }
    assert v1(blockIO=wish) == [
        "blkio.bfq.weight 500",
        "blkio.bfq.weight_device 8:16 10",
        f"blkio.throttle.read_bps_device 8:16 {MIB}",
        "blkio.throttle.write_iops_device 8:16 0",
    ]
    assert v2(blockIO=wish) == [
        "io.bfq.weight 500",
        "io.bfq.weight 8:16 10",
        f"io.max 8:16 rbps={MIB}",
        "io.max 8:16 wiops=max",
    ]
    other = v2_settings({"blockIO": wish})["io"][0].instead
    assert other is not None
    assert other[0].value == "default 4950"


def test_huge_pages() -> None:
    wish = [{"pageSize": "2MB", "limit": 4 * MIB}]
    assert v1(hugepageLimits=wish)[0] == f"hugetlb.2MB.limit_in_bytes {4 * MIB}"
    assert v2(hugepageLimits=wish)[0] == f"hugetlb.2MB.max {4 * MIB}"
    with pytest.raises(InvalidRequest):
        v2(hugepageLimits=[{"pageSize": "../x", "limit": 1}])


def test_raw_files_are_for_v2() -> None:
    assert v2(unified={"memory.high": "1000", "cgroup.max.depth": "3"}) == [
        "memory.high 1000",
        "cgroup.max.depth 3",
    ]
    for file in ("memory", "../cgroup.kill", "memory./x"):
        with pytest.raises(InvalidRequest):
            v2(unified={file: "1"})
    with pytest.raises(Unsupported):
        v1(unified={"memory.high": "1000"})


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": {"kernel": MIB}},
        {"memory": {"kernelTCP": MIB}},
        {"memory": {"disableOOMKiller": True}},
        {"memory": {"swappiness": 10}},
        {"cpu": {"realtimeRuntime": 1000}},
        {"blockIO": {"leafWeight": 10}},
    ],
)
def test_what_v2_cannot_do_is_refused(resources: Mapping[str, object]) -> None:
    with pytest.raises(Unsupported, match="cannot set"):
        v2_settings(resources)


@pytest.mark.parametrize(
    "resources",
    [
        {"memory": 5},
        {"memory": {"limit": "64m"}},
        {"pids": {"limit": True}},
        {"cpu": {"cpus": 3}},
        {"devices": {"allow": True}},
        {"devices": [{"allow": True, "type": "x"}]},
        {"devices": [{"allow": True, "access": "xyz"}]},
        {"blockIO": {"weightDevice": "8:0"}},
    ],
)
def test_wrong_types_are_refused(resources: Mapping[str, object]) -> None:
    with pytest.raises(InvalidRequest, match="invalid"):
        v1_settings(resources)


def test_only_the_controllers_asked_for_are_decided() -> None:
    wish = {"memory": {"swappiness": 10}, "pids": {"limit": 5}}
    assert text(v2_settings(wish, ("pids",))) == ["pids.max 5"]
