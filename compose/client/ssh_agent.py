"""SSH agents for builds: one that runs, or one that is started for a key in a file and ends with
the build. The key itself stays on this side."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from compose.client.errors import ClientError


@asynccontextmanager
async def agents(paths: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """Id -> the socket of an agent; `paths` are of sockets, or of files with keys. Raises
    ClientError."""
    async with AsyncExitStack() as running:
        yield {
            name: await running.enter_async_context(_agent_for(path))
            if Path(path).is_file()
            else path
            for name, path in paths.items()
        }


@asynccontextmanager
async def _agent_for(key: str) -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory(prefix="pycompose-ssh-") as folder:
        socket = f"{folder}/agent"
        try:
            agent = await asyncio.create_subprocess_exec(
                "ssh-agent", "-D", "-a", socket,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError:
            raise ClientError(
                f"cannot use the key {key}: there is no ssh-agent here\n"
                "  hint: install the OpenSSH client, or give the socket of an agent"
            ) from None
        try:
            assert agent.stdout is not None
            await agent.stdout.readline()  # it says where it listens, once it does
            await _add(key, socket)
            yield socket
        finally:
            agent.terminate()
            await agent.wait()


async def _add(key: str, socket: str) -> None:
    # A passphrase is asked of nobody: several builds may go on at once.
    environment = {**os.environ, "SSH_AUTH_SOCK": socket, "SSH_ASKPASS_REQUIRE": "never"}
    try:
        content = Path(key).read_bytes()
    except OSError as error:
        raise ClientError(f"cannot use the key {key}: {error.strerror}") from error
    # Not by its name: ssh-add refuses what others may read, as files of a repository mostly are.
    adding = await asyncio.create_subprocess_exec(
        "ssh-add", "-q", "-",
        env=environment, start_new_session=True,
        stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await adding.communicate(content)
    if adding.returncode:
        reason = " ".join(said.decode(errors="replace").split())
        if "passphrase" in reason:
            reason = "it has a passphrase\n  hint: ssh-add it to an agent, and lend that"
        raise ClientError(f"cannot use the key {key}: {reason}")
