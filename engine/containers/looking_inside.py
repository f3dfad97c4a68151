"""Top, stats and size: what can be seen of a container from without."""

import asyncio
import itertools
import stat
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from engine.containers import ps
from engine.containers.container import Container
from engine.containers.model import Processes, Record
from engine.containers.parts import Parts
from engine.containers.processes import Process, read_process, read_threads
from engine.containers.stats import Sample, Stats, take_sample
from engine.oci.rootfs import MOUNT_TABLE
from engine.runtime.cgroup_counters import read_counters


async def top(parts: Parts, container: Container, ps_arguments: str) -> Processes:
    container.running_shim()
    listing = ps.parse_arguments(ps_arguments)
    pids = sorted(parts.cgroup(container.record).pids())
    return await asyncio.to_thread(lambda: ps.table(_read(pids, listing), listing))


def _read(pids: Iterable[int], listing: ps.Listing) -> Iterator[Process]:
    for pid in pids:
        if listing.threads:
            yield from read_threads(pid)
        elif (found := read_process(pid)) is not None:
            yield found


async def stats(
    parts: Parts, container: Container, *, stream: bool, one_shot: bool
) -> AsyncIterator[Stats]:
    """One a second; a single one without `stream`, and then at once with `one_shot`. Ends
    with the container's removal; one that is down yields an empty sample."""
    previous = None
    for turn in itertools.count():
        current = _sample(parts, container)
        last = not stream and (one_shot or turn == 1 or current.counters is None)
        if stream or last:
            yield Stats(current, previous)
        if last or container.is_gone:
            return
        previous = current
        await asyncio.sleep(1)


def _sample(parts: Parts, container: Container) -> Sample:
    state = container.record.state
    if not state.status.is_up:
        return Sample(time.time_ns())
    try:
        return take_sample(read_counters(parts.cgroup(container.record)), state.pid)
    except FileNotFoundError:
        return Sample(time.time_ns())


async def writable_size(parts: Parts, record: Record) -> int:
    """Bytes that it wrote into its root file system (SizeRw)."""
    folder = parts.store.folder(record.id) / "rootfs/upper"
    return await asyncio.to_thread(_disk_usage, folder)


def _disk_usage(folder: Path) -> int:
    """As Docker counts: directories are nothing, a file with several names is one, and what the
    runtime made is not the container's."""
    total, seen = 0, set[tuple[int, int]]()
    table = Path(f"{folder}{MOUNT_TABLE}")
    for path in folder.rglob("*"):
        if path == table and path.is_symlink():
            continue
        try:
            status = path.lstat()
        except OSError:
            continue  # gone meanwhile
        if not stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_size
    return total
