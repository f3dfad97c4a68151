"""Files with contents of ours: in a request, or as a tar for a container."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

from compose.plan.actions import FileCopy


def make_tar(files: Iterable[FileCopy], *, modified: int) -> bytes:
    """For PUT archive at `/`, owners and modes included. `modified`: seconds since 1970."""
    import tarfile

    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, modified
            entry.uid, entry.gid = file.uid, file.gid
            tar.addfile(entry, io.BytesIO(file.content))
    return written.getvalue()


def given_files(files: Iterable[FileCopy]) -> list[dict[str, object]]:
    """For a create or an update by our own engine, which puts them on a tmpfs."""
    return [
        {
            "Target": file.path,
            "Content": base64.b64encode(file.content).decode(),
            "UID": file.uid,
            "GID": file.gid,
            "Mode": file.mode,
        }
        for file in files
    ]
