"""What clients see and say of a container's stdio: its log, a connection to it, its window."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from engine.containers import log_options
from engine.containers.container import Container
from engine.containers.logs import read_log
from engine.containers.model import LogQuery, Status
from engine.containers.parts import Parts
from engine.containers.streams import ProcessStreams, parse_detach_keys
from engine.errors import Conflict, InvalidRequest, Unsupported

# Seconds in which a program gets to its first words. A start is answered sooner here than by
# Docker, and clients that ask for the log right after it count on finding them.
HEAD_START = 0.2


def read_logs(parts: Parts, container: Container, query: LogQuery) -> AsyncIterator[bytes]:
    """Frames for the wire. Refusals are raised by the call itself."""
    frames = _stored(parts, container, query)
    return frames if query.follow else _once_it_had_time(container, frames)


async def _once_it_had_time(
    container: Container, frames: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Of one that was started this very moment, when it ended or HEAD_START has passed."""
    state = container.record.state
    rest = HEAD_START - (time.time_ns() - state.started_at) / 1e9
    if state.status.is_up and 0 < rest <= HEAD_START:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rest):
                await container.run_ended.wait()
    async for frame in frames:
        yield frame


def _stored(parts: Parts, container: Container, query: LogQuery) -> AsyncIterator[bytes]:
    record = container.record
    if not query.stdout and not query.stderr:
        raise InvalidRequest("Bad parameters: you must choose at least one stream")
    if not record.log_path:
        raise Unsupported("configured logging driver does not support reading")
    _, max_file = log_options.log_limits(record.host.log_config)
    noted = log_options.attributes(record) if query.details else {}

    def is_live() -> bool:
        status = container.record.state.status
        return status.is_up or status is Status.RESTARTING

    return read_log(
        record.log_path,
        query,
        tty=record.config.tty,
        max_file=max_file,
        is_live=is_live,
        watch=parts.log_watch,
        details=log_options.details(noted) if query.details else b"",
    )


async def attach(
    parts: Parts,
    container: Container,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    logs: bool = False,
    stream: bool = True,
    detach_keys: str = "",
) -> ProcessStreams:
    record = container.record
    keys = parse_detach_keys(detach_keys)
    if record.state.status is Status.PAUSED:
        raise Conflict(f"Container {record.id} is paused, unpause the container before attach")
    if record.state.status is Status.RESTARTING:
        raise Conflict(f"Container {record.id} is restarting, wait until the container is running")
    replay = None
    if logs and (stdout or stderr):
        replay = _stored(parts, container, LogQuery(stdout=stdout, stderr=stderr))
    client = ProcessStreams(
        tty=record.config.tty,
        detach_keys=keys if stdin else b"",
        when_detached=lambda: parts.publish(container.record, "detach"),
        replay=replay,
    )
    client.stdin = stdin and record.config.open_stdin
    client.stdout, client.stderr = stdout, stderr
    client.ends_with_input = client.stdin and (record.config.tty or not record.config.stdin_once)
    async with container.held():
        if not stream or not (client.stdin or stdout or stderr):
            client.never_connects()
        elif container.shim is None:
            client.when_closed = lambda: container.waiting_clients.discard(client)
            container.waiting_clients.add(client)
        else:
            reader, writer = await container.shim.attach(
                stdin=client.stdin, stdout=stdout, stderr=stderr
            )
            client.connect(reader, writer, container.run_ended)
    parts.publish(record, "attach")
    return client


async def resize(parts: Parts, container: Container, *, height: int, width: int) -> None:
    check_size(height, width)
    await container.running_shim().resize(height, width)
    size = {"height": str(height), "width": str(width)}
    parts.publish(container.record, "resize", **size)


def check_size(height: int, width: int) -> None:
    if not 0 <= height < 65536 or not 0 <= width < 65536:
        raise InvalidRequest(f"invalid terminal size: {height} rows, {width} columns")
