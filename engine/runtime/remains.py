"""What a container leaves in its exec directory and in the kernel, read without its shim."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from engine.kernel import procfs
from engine.runtime import shim
from engine.runtime.cgroup_tree import Cgroup, detect


@dataclass(frozen=True, slots=True)
class ExitStatus:
    code: int  # 128 + signal for a killed process
    signal: int | None
    oom_killed: bool
    finished_at: int  # nanoseconds since 1970


def read_exit(exec_dir: str) -> ExitStatus | None:
    """The recorded end of a container, if there is one."""
    try:
        document = json.loads(Path(exec_dir, shim.EXIT).read_bytes())
    except FileNotFoundError:
        return None
    return exit_status(document)


def kill(exec_dir: str) -> Cgroup | None:
    """Kill what a killed shim left running; its cgroup, if there was one."""
    try:
        record = json.loads(Path(exec_dir, shim.RECORD).read_bytes())
    except FileNotFoundError:
        return None
    group = Cgroup(detect(), record["cgroup"])
    with contextlib.suppress(FileNotFoundError):
        group.kill()
    if procfs.start_time(record["pid"]) == record["pid_start"]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record["pid"], signal.SIGKILL)
    return group


async def clear(exec_dir: str) -> None:
    group = kill(exec_dir)
    if group is not None:
        # Waits until the killed are gone.
        await asyncio.to_thread(group.remove)
    for name in (shim.SOCKET, shim.RECORD):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(exec_dir, name))


def exit_status(body: Mapping[str, object]) -> ExitStatus:
    return ExitStatus(
        code=cast(int, body["code"]),
        signal=cast("int | None", body["signal"]),
        oom_killed=bool(body["oom_killed"]),
        finished_at=cast(int, body["finished_at"]),
    )
