"""pure: files -> the tar that puts them into a container, owners and modes included."""

from __future__ import annotations

import io
from collections.abc import Iterable

from compose.plan.actions import FileCopy


def make_tar(files: Iterable[FileCopy], *, modified: int) -> bytes:
    """For PUT archive at `/`. `modified`: seconds since 1970."""
    import tarfile

    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            entry = tarfile.TarInfo(file.path.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(file.content), file.mode, modified
            entry.uid, entry.gid = file.uid, file.gid
            tar.addfile(entry, io.BytesIO(file.content))
    return written.getvalue()
