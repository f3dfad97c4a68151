"""Which engine to talk to: --host, PYCOMPOSE_HOST, DOCKER_HOST, else the built-in one.

The built-in engine is started when it doesn't run: detached, with a log, and never twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import compose
from compose.client.address import (
    Address,
    Choice,
    UnixAddress,
    parse_address,
)
from compose.client.contexts import context_address
from compose.client.engine import Engine, connect
from compose.client.errors import BadAddress, Unreachable
from compose.dataclass import dataclass
from compose.warm.place import runtime_folder

# What a daemon needs of its starter's environment. The rest may hold secrets, and it lives long.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR", "XDG_DATA_HOME",
             "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
             "no_proxy", "PYENGINE_REGISTRY_MIRROR", "PYENGINE_INSECURE_REGISTRY")  # fmt: skip
LOG_LINES = 15


@dataclass(frozen=True, slots=True)
class Places:
    """Folders of the built-in engine: root's are the machine's, a user's are XDG's."""

    data_root: Path
    exec_root: Path

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(str(self.exec_root / "engine.sock"))

    @property
    def log(self) -> Path:
        return self.exec_root / "engine.log"


def built_in_places(uid: int, environment: Mapping[str, str]) -> Places:
    runtime = Path(runtime_folder(uid, environment))
    if uid == 0:
        return Places(Path("/var/lib/pycompose"), runtime)
    home = environment.get("HOME", "/")
    data = environment.get("XDG_DATA_HOME") or f"{home}/.local/share"
    return Places(Path(data) / "pycompose", runtime)


def chosen_address(choice: Choice, environment: Mapping[str, str]) -> Address | None:
    """What the user asked for; None: nothing, so the built-in engine. As in Docker an option wins
    over the environment, and there an address over a context."""
    if choice.host and choice.context:
        raise BadAddress("cannot use --host and --context together", hint="leave one out")
    if choice.context:
        return context_address(choice.context, environment)
    named = choice.host or environment.get("PYCOMPOSE_HOST") or environment.get("DOCKER_HOST")
    if named:
        return parse_address(named, environment, choice.tls)
    if context := environment.get("DOCKER_CONTEXT"):
        return context_address(context, environment)
    return None


async def locate(choice: Choice, environment: Mapping[str, str]) -> Engine:
    """A connected engine; starts the built-in one if it is meant and down. Raises ClientError."""
    address = chosen_address(choice, environment)
    if address is not None:
        return await connect(address, environment)
    return await connect_built_in(built_in_places(os.getuid(), environment), environment)


async def connect_built_in(places: Places, environment: Mapping[str, str]) -> Engine:
    if engine := await connect_if_running(places.address, environment):
        return engine
    try:
        places.exec_root.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unreachable(
            f"cannot start the built-in engine: {places.exec_root}: {error.strerror}",
            hint="run as root, or set DOCKER_HOST to use another engine",
        ) from error
    async with _starting(places):
        # Whoever held the lock before us may have started it.
        if engine := await connect_if_running(places.address, environment):
            return engine
        await _start(places, environment)
        return await connect(places.address, environment)


async def connect_if_running(address: UnixAddress, environment: Mapping[str, str]) -> Engine | None:
    """None where nothing listens; every other trouble is raised."""
    try:
        return await connect(address, environment)
    except Unreachable as error:
        if isinstance(
            error.__cause__, (FileNotFoundError, NotADirectoryError, ConnectionRefusedError)
        ):
            return None
        raise


@asynccontextmanager
async def _starting(places: Places) -> AsyncIterator[None]:
    path = places.exec_root / "start.lock"
    with open(path, "w") as lock:
        # In a thread: whoever is starting the engine may need seconds.
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Should another one make a new file now, the engine itself refuses to run twice.
            path.unlink(missing_ok=True)


async def _start(places: Places, environment: Mapping[str, str]) -> None:
    """Returns when it serves; raises Unreachable with the end of its log when it doesn't."""
    reader, writer = os.pipe()
    with contextlib.ExitStack() as files:
        ready = files.enter_context(open(reader, "rb", buffering=0))
        # Kept open: an engine that fails late takes its folder with it, and the log in it.
        log = files.enter_context(open(places.log, "a+b", opener=_private))
        start = log.tell()
        with open(writer, "wb"):
            process = subprocess.Popen(
                daemon_command(places, environment, ready_fd=writer),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writer,),
                start_new_session=True,
                cwd=Path(compose.__file__).parent.parent,  # where `-m engine...` is found
                env={name: environment[name] for name in INHERITED if name in environment},
            )
        # One byte when it serves; the end of the pipe when it has died.
        if await asyncio.to_thread(ready.read, 1):
            # Not waited for, since it outlives us; without this the interpreter would warn.
            process.returncode = 0
            return
        code = await asyncio.to_thread(process.wait)
        said = log_end(log, start)
    more = f"its log is {places.log}; " if places.log.exists() else ""
    raise Unreachable(
        f"cannot start the built-in engine: it ended with {code}\n{said}",
        hint=f"{more}set DOCKER_HOST to use another engine",
    )


def daemon_command(places: Places, environment: Mapping[str, str], *, ready_fd: int) -> list[str]:
    command = [sys.executable, "-m", "engine.cli.main", "daemon", "--ready-fd", str(ready_fd)]
    revive = [sys.executable, "-m", "compose.client.revive"]
    revive += [str(places.data_root), str(places.exec_root)]
    command += ["--after-crash", shlex.join(revive)]
    if places == built_in_places(os.getuid(), environment):
        # Its folders and its socket are where it has them by itself: /etc/pycompose/daemon.json may
        # say otherwise, and what is said there must not be said here as well.
        return command
    folders = ["--data-root", str(places.data_root), "--exec-root", str(places.exec_root)]
    return [*command, "-H", str(places.address), *folders]


def log_end(log: IO[bytes], start: int) -> str:
    """The last lines of what was written after `start`, each indented."""
    log.seek(start)
    lines = log.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-LOG_LINES:]) or "  (it wrote nothing)"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
