"""What a container uses, as the API tells it. The JSON is made by a pure function."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiohttp import web

from engine.api.answer import encode
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.shown import NEVER, Document, timestamp
from engine.api.streams import JSON, send_all
from engine.containers.stats import Sample, Stats
from engine.errors import InvalidRequest
from engine.runtime.cgroup_counters import Counters, Throughput


async def stats(request: Request, engine: Engine) -> web.StreamResponse:
    record = engine.containers.get(request["id"])
    is_stream = request.query.flag("stream", True)
    one_shot = request.query.flag("one-shot") and request.version >= (1, 41)
    if is_stream and one_shot:
        raise InvalidRequest("cannot have stream=true and one-shot=true")
    samples = engine.containers.stats(record.id, stream=is_stream, one_shot=one_shot)
    pieces = (encode(stats_json(record.id, record.name, one)) async for one in samples)
    return await send_all(request, JSON, pieces, endless=is_stream)


def stats_json(container_id: str, name: str, stats: Stats) -> Document:
    current, previous = stats.current, stats.previous
    down = current.counters is None
    document: Document = {
        "name": f"/{name}",
        "id": container_id,
        "read": NEVER if down else timestamp(current.read),
        "preread": NEVER if previous is None or down else timestamp(previous.read),
        "num_procs": 0,
        "storage_stats": {},
        "pids_stats": _pids(current.counters),
        "cpu_stats": _cpu(current),
        "precpu_stats": _cpu(previous) if previous else _cpu(Sample(read=0)),
        "memory_stats": _memory(current),
        "blkio_stats": _block_devices(current.counters),
    }
    if current.networks:
        document["networks"] = {
            name: {
                "rx_bytes": counters.rx_bytes,
                "rx_packets": counters.rx_packets,
                "rx_errors": counters.rx_errors,
                "rx_dropped": counters.rx_dropped,
                "tx_bytes": counters.tx_bytes,
                "tx_packets": counters.tx_packets,
                "tx_errors": counters.tx_errors,
                "tx_dropped": counters.tx_dropped,
            }
            for name, counters in current.networks.items()
        }
    return document


def _pids(counters: Counters | None) -> Document:
    if counters is None or counters.pids is None:
        return {}
    document: Document = {"current": counters.pids}
    if counters.pids_limit is not None and counters.pids_limit > 0:
        document["limit"] = counters.pids_limit
    return document


def _cpu(sample: Sample) -> Document:
    counters = sample.counters
    usage: Document = {
        "total_usage": counters.cpu_total if counters else 0,
        "usage_in_kernelmode": counters.cpu_system if counters else 0,
        "usage_in_usermode": counters.cpu_user if counters else 0,
    }
    if counters and counters.cpu_each:
        usage["percpu_usage"] = counters.cpu_each
    document: Document = {
        "cpu_usage": usage,
        "throttling_data": {
            "periods": counters.periods if counters else 0,
            "throttled_periods": counters.throttled_periods if counters else 0,
            "throttled_time": counters.throttled if counters else 0,
        },
    }
    if counters:
        document["system_cpu_usage"] = sample.system_cpu
        document["online_cpus"] = sample.online_cpus
    return document


def _memory(sample: Sample) -> Document:
    counters = sample.counters
    if counters is None or counters.memory_usage is None:
        return {}
    document: Document = {
        "usage": counters.memory_usage,
        "stats": counters.memory,
        "limit": sample.memory_limit,
    }
    if counters.memory_peak is not None:
        document["max_usage"] = counters.memory_peak
    if counters.memory_failures:
        document["failcnt"] = counters.memory_failures
    return document


def _block_devices(counters: Counters | None) -> Document:
    devices = counters.devices if counters else ()
    read_written = [row for device in devices for row in _throughput(device, device.transferred)]
    operations = [row for device in devices for row in _throughput(device, device.operations)]
    # As in Docker: [] is what cgroup v1 counts and was not used, null what v2 has no counter for.
    nothing: list[Document] | None = [] if counters and counters.cpu_each else None
    return {
        "io_service_bytes_recursive": read_written or nothing,
        "io_serviced_recursive": operations or nothing,
        "io_queue_recursive": nothing,
        "io_service_time_recursive": nothing,
        "io_wait_time_recursive": nothing,
        "io_merged_recursive": nothing,
        "io_time_recursive": nothing,
        "sectors_recursive": nothing,
    }


def _throughput(device: Throughput, counts: Mapping[str, int]) -> Iterator[Document]:
    for name, count in counts.items():
        yield {"major": device.major, "minor": device.minor, "op": name, "value": count}
