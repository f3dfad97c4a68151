"""A connection to an engine on another machine: ssh runs `docker system dial-stdio` there, or where
Docker's command isn't, `pyengine system dial-stdio`."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from compose.client.address import SshAddress
from compose.client.errors import Unreachable

# So long a login stays for the next request; each request has a connection of its own.
PERSIST = "20s"
# For the login's shell, whichever it is: a word, and one in single quotes.
DIAL = (
    "sh -c 'command -v docker > /dev/null && exec docker system dial-stdio;"
    " exec pyengine system dial-stdio'"
)


async def open_ssh(
    address: SshAddress, environment: Mapping[str, str], *, limit: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """What the engine sends comes from the reader; the end of what is written reaches it too."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = await asyncio.create_subprocess_exec(
                *ssh_command(address, control_folder(environment)),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                env=dict(environment),
            )
        except OSError as error:
            ours.close()
            raise Unreachable(
                f"cannot reach the engine at {address}: cannot run ssh: {error.strerror}",
                hint="install an SSH client",
            ) from error
    reader, writer = await asyncio.open_unix_connection(sock=ours, limit=limit)
    _reap(process)
    return reader, writer


def ssh_command(address: SshAddress, control: Path | None) -> tuple[str, ...]:
    """Pure. What the user's SSH configuration says of the host counts."""
    shared: tuple[str, ...] = ()
    if control is not None:
        shared = ("-o", "ControlMaster=auto", "-o", f"ControlPath={control}/%C",
                  "-o", f"ControlPersist={PERSIST}")  # fmt: skip
    user = ("-l", address.user) if address.user else ()
    port = ("-p", str(address.port)) if address.port else ()
    return ("ssh", "-o", "ConnectTimeout=30", "-T", *shared, *user, *port, "--", address.host,
            DIAL)  # fmt: skip


def control_folder(environment: Mapping[str, str]) -> Path | None:
    """Where the sockets of shared logins lie: a folder that is the user's alone, or none."""
    runtime = environment.get("XDG_RUNTIME_DIR") or ("/run" if os.getuid() == 0 else "")
    if not runtime:
        return None
    folder = Path(runtime) / "pycompose-ssh"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    return folder if (found.st_uid, found.st_mode & 0o777) == (os.getuid(), 0o700) else None


_running: set[asyncio.Task[int]] = set()
_PATIENCE = 2.0  # seconds for it to end by itself


def _reap(process: asyncio.subprocess.Process) -> None:
    """It ends when its input does; until then something has to wait for it."""
    task = asyncio.ensure_future(_ended(process))
    _running.add(task)
    task.add_done_callback(_running.discard)


async def _ended(process: asyncio.subprocess.Process) -> int:
    try:
        return await process.wait()
    except asyncio.CancelledError:
        # The event loop ends: it would complain of a process that ends after it.
        try:
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        raise
