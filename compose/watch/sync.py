"""Files of this machine -> into a running container: one tar for what is there, one command for
what has gone."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Sequence

from compose.apply.hooks import run_hook
from compose.client.engine import Engine
from compose.errors import ApplyError
from compose.model.service import Hook
from compose.watch.rules import SyncPath


def make_tar(paths: Sequence[SyncPath]) -> bytes:
    """Owners, modes and times as on this machine; what has vanished meanwhile is left out."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in paths:
            if os.path.lexists(path.source):
                tar.add(path.source, arcname=path.target.lstrip("/"), recursive=True)
    return buffer.getvalue()


async def sync(engine: Engine, container: str, paths: Sequence[SyncPath]) -> None:
    """Raises ClientError, or ApplyError where the container can't remove what has gone."""
    present = [path for path in paths if os.path.lexists(path.source)]
    gone = [path.target for path in paths if not os.path.lexists(path.source)]
    if gone:
        await _remove(engine, container, gone)
    if present:
        await engine.containers.put_archive(container, "/", make_tar(present))


async def _remove(engine: Engine, container: str, targets: Sequence[str]) -> None:
    result = await run_hook(engine, container, Hook(command=("rm", "-rf", "--", *targets)))
    if result.exit_code:
        raise ApplyError(
            f"cannot remove {', '.join(targets)} in the container: rm gave {result.exit_code}"
        )
