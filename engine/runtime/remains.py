"""What a container leaves in its exec directory and in the kernel, read without its shim."""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from engine.runtime import birth
from engine.runtime.cgroup_tree import Cgroup, detect

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExitStatus:
    code: int  # 128 + signal for a killed process
    signal: int | None
    oom_killed: bool
    finished_at: int  # nanoseconds since 1970
    ran_for: int = 0  # nanoseconds, 0 = unknown


def read_exit(exec_dir: str) -> ExitStatus | None:
    """The recorded end of a container, if there is one."""
    document = _read(exec_dir, birth.EXIT)
    return None if document is None else exit_status(document)


def kill(exec_dir: str) -> Cgroup | None:
    """Kill what a killed shim left running; its cgroup, if there was one."""
    record = _read(exec_dir, birth.RECORD)
    if record is None:
        return None
    group = Cgroup(detect(), record["cgroup"])
    with contextlib.suppress(FileNotFoundError):
        group.kill()
    return group


async def clear(exec_dir: str) -> None:
    group = kill(exec_dir)
    if group is not None:
        # Waits until the killed are gone.
        await asyncio.to_thread(group.remove)
    for name in (birth.SOCKET, birth.RECORD):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(exec_dir, name))


def _read(exec_dir: str, name: str) -> dict[str, Any] | None:
    """A document that a shim wrote; one that a dying machine tore tells nothing."""
    try:
        document = json.loads(Path(exec_dir, name).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.error("cannot read %s of %s: %s", name, exec_dir, error)
        return None
    assert isinstance(document, dict)
    return document


def exit_status(body: Mapping[str, object]) -> ExitStatus:
    return ExitStatus(
        code=cast(int, body["code"]),
        signal=cast("int | None", body["signal"]),
        oom_killed=bool(body["oom_killed"]),
        finished_at=cast(int, body["finished_at"]),
        ran_for=cast(int, body.get("ran_for", 0)),
    )
