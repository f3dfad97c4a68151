"""Containers straight from a LaunchRequest: an overlay on the machine's own `/`, the OCI spec
that an ordinary Docker container would have, and the least to run a command and see its output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.ids import new_id
from engine.oci.rootfs import Rootfs
from engine.runtime import capabilities, devices
from engine.runtime.handle import ExecRequest, Lost, Shim
from engine.runtime.launch import Spawner
from engine.runtime.remains import ExitStatus
from engine.runtime.request import LaunchRequest, LogTarget

PREFIX = "pycompose-test-runtime"

MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys"),
    *("/proc/latency_stats", "/proc/sched_debug", "/proc/scsi", "/proc/timer_list"),
    *("/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"),
)
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

MOUNTS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("/proc", "proc", "proc", ("nosuid", "noexec", "nodev")),
    ("/dev", "tmpfs", "tmpfs", ("nosuid", "strictatime", "mode=755", "size=65536k")),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        ("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    ("/sys", "sysfs", "sysfs", ("nosuid", "noexec", "nodev", "ro")),
    ("/sys/fs/cgroup", "cgroup", "cgroup", ("ro", "nosuid", "noexec", "nodev")),
    ("/dev/mqueue", "mqueue", "mqueue", ("nosuid", "noexec", "nodev")),
    ("/dev/shm", "tmpfs", "shm", ("nosuid", "noexec", "nodev", "mode=1777", "size=67108864")),
)


_DEVICES: dict[str, object] = {"devices": [rule.to_oci() for rule in devices.DEFAULT_RULES]}


# Of a network namespace: the host's is not ours to change.
_PORTS = {"net.ipv4.ip_unprivileged_port_start": "0"}


def spec(
    *arguments: str,
    container_id: str,
    env: tuple[str, ...] = (),
    cwd: str = "/",
    terminal: bool = False,
    mounts: tuple[dict[str, object], ...] = (),
    resources: dict[str, object] | None = None,
    namespaces: dict[str, str] | None = None,
    sysctl: dict[str, str] | None = None,
    no_new_privileges: bool = False,
    capability_names: tuple[str, ...] = capabilities.DEFAULT,
    rlimits: tuple[dict[str, object], ...] = (),
    read_only: bool = False,
) -> dict[str, object]:
    kinds = {"mount": "", "pid": "", "network": "", "ipc": "", "uts": ""} | (namespaces or {})
    names = list(capability_names)
    return {
        "ociVersion": "1.2.0",
        "hostname": container_id[:12],
        "root": {"path": "rootfs", "readonly": read_only},
        "process": {
            "terminal": terminal,
            "args": list(arguments),
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *env],
            "cwd": cwd,
            "capabilities": {"bounding": names, "effective": names, "permitted": names},
            "noNewPrivileges": no_new_privileges,
            "rlimits": list(rlimits),
            "oomScoreAdj": 0,
        },
        "mounts": [
            *(
                {"destination": target, "type": kind, "source": source, "options": list(options)}
                for target, kind, source, options in MOUNTS
            ),
            *mounts,
        ],
        "linux": {
            "cgroupsPath": f"/{PREFIX}/{container_id}",
            "namespaces": [
                {"type": kind} | ({"path": path} if path else {})
                for kind, path in kinds.items()
                if path != "host"
            ],
            "resources": _DEVICES | (resources or {}),
            "maskedPaths": list(MASKED),
            "readonlyPaths": list(READ_ONLY),
            "sysctl": ({} if kinds["network"] == "host" else _PORTS) | (sysctl or {}),
        },
    }


@dataclass
class Ran:
    status: ExitStatus
    stdout: bytes
    stderr: bytes


@dataclass
class Laboratory:
    spawner: Spawner
    folder: Path
    shims: list[Shim] = field(default_factory=list)
    scripted: list[bool] = field(default_factory=list)  # whether a script started what it has

    def request(
        self, *arguments: str, user: str = "", container_id: str = "", **changes: object
    ) -> LaunchRequest:
        container_id = container_id or new_id()
        own = {name: changes.pop(name) for name in list(changes) if name in _REQUEST_FIELDS}
        place = self.folder / container_id
        for name in ("upper", "work"):
            (place / name).mkdir(parents=True)
        exec_dir = self.folder / "exec" / container_id
        with contextlib.suppress(FileExistsError):  # exist_ok fails if it goes at that moment
            exec_dir.mkdir(mode=0o700, parents=True)
        built = spec(*arguments, container_id=container_id, **changes)  # type: ignore[arg-type]
        request = LaunchRequest(
            container_id=container_id,
            spec=built,
            seccomp=b"",
            user=user,
            groups=(),
            rootfs=Rootfs(("/",), str(place / "upper"), str(place / "work"), False),
            exec_dir=str(exec_dir),
            log=LogTarget(str(place / "json.log"), 0, 1),
            open_stdin=False,
            stdin_once=False,
            init=False,
            own_network=True,
            dns=False,
        )
        return replace(request, **own)  # type: ignore[arg-type]

    async def launch(self, request: LaunchRequest, *, by_script: bool = True) -> Shim:
        """As a container's start does it."""
        shim = await self.spawner.prepare(request, by_script=by_script)
        is_scripted = shim.is_told or shim.script is not None
        try:
            await self.spawner.launch(shim, request)
        except BaseException as error:
            await shim.abandon()
            if isinstance(error, Lost) and (shim.is_spare or shim.is_unfit):
                return await self.launch(request, by_script=False)
            raise
        self.shims.append(shim)
        self.scripted.append(is_scripted)
        return shim

    async def start_request(self, request: LaunchRequest) -> Shim:
        shim = await self.launch(request)
        await shim.go()
        return shim

    async def start(self, *arguments: str, **changes: object) -> Shim:
        return await self.start_request(self.request(*arguments, **changes))  # type: ignore[arg-type]

    async def run(self, *arguments: str, **changes: object) -> Ran:
        """Start, wait for the end, and give back the output."""
        return await self.run_request(self.request(*arguments, **changes))  # type: ignore[arg-type]

    async def run_request(self, request: LaunchRequest, *, by_script: bool = True) -> Ran:
        shim = await self.launch(request, by_script=by_script)
        try:
            reader, writer = await shim.attach(stdin=False, stdout=True, stderr=True)
        except Lost:
            if not shim.is_unfit:
                raise
            return await self.run_request(request)  # its first process was killed as it waited
        try:
            await shim.go()
            output = await reader.read()
        finally:
            writer.close()
        status = await shim.exited
        await shim.release()
        terminal = bool(request.spec["process"]["terminal"])  # type: ignore[index]
        return Ran(status, *((output, b"") if terminal else unframe(output)))

    async def close(self) -> None:
        for shim in self.shims:
            if shim.sockets is not None:
                shim.sockets.close()
            if not shim.exited.done():
                try:
                    await shim.kill_all()
                except Lost:
                    continue  # the test let go of it
                async with asyncio.timeout(10):
                    await shim.exited
            with contextlib.suppress(Lost, FileNotFoundError):
                await shim.release()
        await self.spawner.close()


_REQUEST_FIELDS = frozenset(
    (
        *("seccomp", "groups", "rootfs", "log", "open_stdin", "stdin_once"),
        *("init", "own_network", "dns"),
    )
)


@contextlib.asynccontextmanager
async def laboratory() -> AsyncIterator[Laboratory]:
    # Not in /tmp: an overlay can't have its upper directory on another overlay or a tmpfs of
    # some kinds, and /var/tmp is on a disk everywhere.
    folder = Path(tempfile.mkdtemp(prefix="pycompose-runtime-", dir="/var/tmp"))
    made = Laboratory(await Spawner.start(), folder)
    try:
        yield made
    finally:
        await made.close()
        shutil.rmtree(folder)


async def ended(pid: int) -> None:
    """Returns when a process that may not be a child is no more."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _wake, gone)
    async with asyncio.timeout(10):
        await gone
    loop.remove_reader(descriptor)
    os.close(descriptor)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


# Run as a program: a daemon that starts one container, given as a pickle, and stays.
DAEMON = """
import asyncio, os, pickle, sys
from engine.runtime.handle import Lost
from engine.runtime.launch import Spawner

async def main():
    spawner = await Spawner.start()
    request = pickle.loads(bytes.fromhex(sys.argv[1]))
    for by_script in (True, False):
        shim = await spawner.prepare(request, by_script=by_script)
        try:
            await spawner.launch(shim, request)
            break
        except Lost:
            assert shim.is_unfit
    await shim.go()
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def unframe(stream: bytes) -> tuple[bytes, bytes]:
    """stdout and stderr of what stdcopy frames hold."""
    streams = {1: bytearray(), 2: bytearray()}
    at = 0
    while at < len(stream):
        length = int.from_bytes(stream[at + 4 : at + 8], "big")
        streams[stream[at]] += stream[at + 8 : at + 8 + length]
        at += 8 + length
    return bytes(streams[1]), bytes(streams[2])


def read_log(path: str) -> bytes:
    """The bytes that a json-file log holds, of both streams in order."""
    with open(path, "rb") as stream:
        records = [json.loads(line)["log"] for line in stream]
    return "".join(records).encode("utf-8", "surrogateescape")


def exec_request(*arguments: str, user: str = "", **changes: object) -> ExecRequest:
    terminal = bool(changes.pop("terminal", False))
    process = spec(*arguments, container_id="0" * 64, terminal=terminal)["process"]
    request = ExecRequest(
        process=process,  # type: ignore[arg-type]
        user=user,
        groups=(),
        seccomp=b"",
        attach_stdin=False,
        attach_stdout=True,
        attach_stderr=not terminal,
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def shim_of(container_id: str) -> int:
    """The process id; 0 if it has none."""
    for process in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            words = (process / "cmdline").read_bytes().rstrip(b"\0 ")
            if words == f"pycompose-shim {container_id}".encode():
                return int(process.name)
    return 0


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
