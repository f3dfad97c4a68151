"""Limits: which are left out, how an update changes them, and that the kernel has them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.containers.limits import fitted, updated
from engine.containers.model import HostConfig, ResourceUpdate, RestartPolicy
from engine.errors import Conflict, EngineError, InvalidRequest
from engine.runtime.cgroup_tree import Cgroup, detect
from tests.engine.containers.conftest import Engine


def test_cgroup_v2_goes_without_what_it_does_not_know() -> None:
    asked = HostConfig(
        memory=1 << 30, oom_kill_disable=True, memory_swappiness=10, kernel_memory_tcp=1 << 20
    )
    assert fitted(asked, unified=False) == (asked, ())
    left, warnings = fitted(asked, unified=True)
    assert left == HostConfig(memory=1 << 30)
    assert [warning.split(".")[1].strip() for warning in warnings] == [
        *("OomKillDisable discarded", "Memory swappiness discarded"),
        "Kernel memory TCP limit discarded",
    ]


def test_cgroup_v2_has_no_real_time_groups() -> None:
    for asked in (HostConfig(cpu_realtime_period=1000), HostConfig(cpu_realtime_runtime=1000)):
        assert fitted(asked, unified=False) == (asked, ())
        with pytest.raises(InvalidRequest, match="does not support CPU real-time scheduler"):
            fitted(asked, unified=True)


def test_no_oom_killer_without_a_limit_is_warned_of() -> None:
    _, warnings = fitted(HostConfig(oom_kill_disable=True), unified=False)
    assert "no memory limit is set" in warnings[0]


@pytest.mark.parametrize(
    ("host", "change", "text"),
    [
        (HostConfig(cpu_period=1000), ResourceUpdate(nano_cpus=1), "Nano CPUs cannot be updated"),
        (HostConfig(nano_cpus=1), ResourceUpdate(cpu_quota=1000), "CPU Quota cannot be updated"),
        (HostConfig(nano_cpus=1), ResourceUpdate(cpu_period=1000), "as NanoCPUs has already"),
        (
            HostConfig(memory=1 << 20, memory_swap=2 << 20),
            ResourceUpdate(memory=4 << 20),
            "update the memoryswap at the same time",
        ),
    ],
)
def test_an_update_against_a_limit_that_stays_is_refused(
    host: HostConfig, change: ResourceUpdate, text: str
) -> None:
    with pytest.raises(Conflict, match=text):
        updated(host, change)


def test_no_limit_of_processes_is_nought() -> None:
    for pids_limit in (0, -1):
        change = ResourceUpdate(pids_limit=pids_limit)
        assert updated(HostConfig(pids_limit=5), change).pids_limit == 0
    assert updated(HostConfig(), ResourceUpdate(memory=1)).pids_limit is None


# --- in the kernel ------------------------------------------------------------------------------

# {what: ({file of v1: text}, {file of v2: text})}
EXPECTED = {
    "memory": ("memory.limit_in_bytes", str(64 << 20), "memory.max", str(64 << 20)),
    "memory and swap": (
        *("memory.memsw.limit_in_bytes", str(96 << 20)),
        *("memory.swap.max", str(32 << 20)),
    ),
    "reservation": ("memory.soft_limit_in_bytes", str(32 << 20), "memory.low", str(32 << 20)),
    "shares": ("cpu.shares", "512", "cpu.weight", "59"),
    "quota": ("cpu.cfs_quota_us", "25000", "cpu.max", "25000 50000"),
    "period": ("cpu.cfs_period_us", "50000", "cpu.max", "25000 50000"),
    "cpus": ("cpuset.cpus", "0", "cpuset.cpus", "0"),
    "mems": ("cpuset.mems", "0", "cpuset.mems", "0"),
    "processes": ("pids.max", "50", "pids.max", "50"),
}


def group(identifier: str) -> Cgroup:
    return Cgroup(detect(), f"pycompose/{identifier}")


def read(identifier: str, file: str) -> str | None:
    """None where this kernel has no such file."""
    try:
        return (
            (Path(group(identifier).directory(file.partition(".")[0])) / file).read_text().strip()
        )
    except FileNotFoundError:
        return None


@pytest.mark.kernel
async def test_an_update_reaches_every_limit_of_the_running(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000")
    change = ResourceUpdate(
        memory=64 << 20, memory_swap=96 << 20, memory_reservation=32 << 20, cpu_shares=512,
        cpu_period=50000, cpu_quota=25000, cpuset_cpus="0", cpuset_mems="0", pids_limit=50,
        restart_policy=RestartPolicy("on-failure", 3),
    )  # fmt: skip
    assert await engine.containers.update(identifier, change) == ()
    for what, (v1_file, v1_text, v2_file, v2_text) in EXPECTED.items():
        file, text = (v2_file, v2_text) if detect().is_v2 else (v1_file, v1_text)
        assert read(identifier, file) in (text, None), what
    host = engine.get(identifier).host
    assert (host.cpuset_cpus, host.restart_policy.maximum_retry_count) == ("0", 3)
    # Grown beyond what memory and swap was, and without a limit of processes again.
    await engine.containers.update(
        identifier, ResourceUpdate(memory=256 << 20, memory_swap=-1, pids_limit=-1)
    )
    assert read(identifier, "pids.max") == "max"
    assert engine.get(identifier).host.pids_limit == 0
    await engine.containers.stop(identifier, timeout=0)
    await engine.containers.start(identifier)
    assert read(identifier, "memory.max" if detect().is_v2 else "memory.limit_in_bytes") == str(
        256 << 20
    )


@pytest.mark.kernel
async def test_limits_are_taken_off_the_running(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000")
    files = ("memory.max", "memory.swap.max", "memory.low", "memory.limit_in_bytes",
             "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes", "cpu.max", "cpu.weight",
             "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "pids.max")  # fmt: skip
    before = {file: read(identifier, file) for file in files}
    change = ResourceUpdate(
        memory=64 << 20, memory_swap=96 << 20, memory_reservation=32 << 20, cpu_shares=512,
        nano_cpus=500_000_000, pids_limit=50,
    )  # fmt: skip
    await engine.containers.update(identifier, change)
    assert {file: read(identifier, file) for file in files} != before
    # The other way to say how much of a processor, which the first one excludes, in its place.
    off = ("memory", "memory_swap", "memory_reservation", "cpu_shares", "nano_cpus", "pids_limit")
    await engine.containers.update(
        identifier, ResourceUpdate(cpu_period=50_000, cpu_quota=25_000, unset=off)
    )
    await engine.containers.update(identifier, ResourceUpdate(unset=("cpu_period", "cpu_quota")))
    assert {file: read(identifier, file) for file in files} == before
    host = engine.get(identifier).host
    assert (host.memory, host.memory_swap, host.nano_cpus, host.cpu_quota) == (0, 0, 0, 0)


@pytest.mark.kernel
async def test_block_devices_are_throttled_by_create_and_update(engine: Engine) -> None:
    device = next(
        (
            f"/dev/{path.name}"
            for path in Path("/sys/block").iterdir()
            if (path / "device").exists()
        ),
        None,
    )
    if device is None:
        pytest.skip("no disk here")
    limit: dict[str, object] = {"Path": device, "Rate": 1 << 20}
    host = HostConfig(blkio_device_read_bps=(limit,))
    if detect().is_v2:
        # Whether or not something on this machine shares the disk out by weight.
        host = replace(host, blkio_weight_device=({"Path": device, "Weight": 300},))
    identifier = await engine.run("sleep", "1000", host=host)
    await engine.containers.update(
        identifier, ResourceUpdate(blkio_device_write_iops=({**limit, "Rate": 100},))
    )
    if detect().is_v2:
        text = read(identifier, "io.max")
        assert text is not None
        assert "rbps=1048576 wbps=max riops=max wiops=100" in text
        return
    for file, rate in (("read_bps", 1 << 20), ("write_iops", 100)):
        text = read(identifier, f"blkio.throttle.{file}_device")
        assert text is not None
        assert text.endswith(f" {rate}")


@pytest.mark.kernel
async def test_what_the_kernel_refuses_changes_nothing(engine: Engine) -> None:
    identifier = await engine.run("sleep", "1000", host=HostConfig(memory=64 << 20))
    parts = engine.containers._parts
    larger = replace(parts.machine, memory_nodes=64)  # than the kernel knows it
    engine.containers._parts = replace(parts, machine=larger)
    nowhere = ResourceUpdate(memory=32 << 20, memory_swap=64 << 20, cpuset_mems="63")
    with pytest.raises(EngineError, match=f"Cannot update container {identifier}"):
        await engine.containers.update(identifier, nowhere)
    file = "memory.max" if detect().is_v2 else "memory.limit_in_bytes"
    assert read(identifier, file) == str(64 << 20)
    assert engine.get(identifier).host.memory == 64 << 20


@pytest.mark.kernel
async def test_a_policy_for_what_goes_by_itself_is_refused(engine: Engine) -> None:
    identifier = await engine.create("true", host=HostConfig(auto_remove=True))
    with pytest.raises(InvalidRequest, match=r"Cannot update .* because AutoRemove is enabled"):
        await engine.containers.update(
            identifier, ResourceUpdate(restart_policy=RestartPolicy("always"))
        )


@pytest.mark.kernel
@pytest.mark.skipif(detect().is_v2, reason="cgroup v2 can't do without the OOM killer")
async def test_the_oom_killer_is_switched_off_on_wish(engine: Engine) -> None:
    host = HostConfig(memory=64 << 20, oom_kill_disable=True)
    identifier = await engine.run("sleep", "1000", host=replace(host, oom_score_adj=500))
    assert (read(identifier, "memory.oom_control") or "").startswith("oom_kill_disable 1")
    score = Path(f"/proc/{engine.get(identifier).state.pid}/oom_score_adj").read_text()
    assert score == "500\n"
