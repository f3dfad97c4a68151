"""An SSH agent of the client, lent to one step: a socket of the step's own that leads to it, with
the owner and mode that the mount asks for. Keys never come here, only what they sign."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from engine.builder.mounts import StepMount
from engine.errors import InvalidRequest

_CHUNK = 1 << 16


@contextlib.asynccontextmanager
async def lent_agent(agent: str, path: Path, mount: StepMount) -> AsyncIterator[None]:
    """`agent`: the path of its socket on this machine. Raises InvalidRequest where nobody
    listens there."""
    tasks: set[asyncio.Task[None]] = set()

    def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_join(agent, reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    try:
        _, probe = await asyncio.open_unix_connection(agent)
    except OSError as error:
        raise InvalidRequest(
            f"cannot reach the SSH agent at {agent}: {error.strerror or error}; it has to be a "
            "socket on the engine's machine"
        ) from error
    probe.close()
    server = await asyncio.start_unix_server(serve, path)
    try:
        os.chown(path, mount.uid, mount.gid)
        path.chmod(0o600 if mount.mode is None else mount.mode)
        yield
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _join(agent: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both directions, until one side has hung up."""
    try:
        from_agent, to_agent = await asyncio.open_unix_connection(agent)
    except OSError:
        writer.close()  # as an agent that has gone away looks
        return
    try:
        there = asyncio.create_task(_pass(reader, to_agent))
        back = asyncio.create_task(_pass(from_agent, writer))
        try:
            await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()
    finally:
        writer.close()
        to_agent.close()


async def _pass(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await source.read(_CHUNK):
            target.write(chunk)
            await target.drain()
