"""Files with contents of ours: as a tar for a container, or on this machine to be bound."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from compose.errors import ApplyError
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


def write_content(file: FileCopy) -> None:
    """Whole or not at all; only root can look into the folder, whatever the file's mode."""
    import tempfile

    path = Path(file.path)
    if path.exists():
        if file.in_place:
            _write_in_place(path, file)
        return  # else its name is made of its content
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent)
        with open(descriptor, "wb") as written:
            written.write(file.content)
            if (file.uid, file.gid) != (os.getuid(), os.getgid()):
                os.fchown(descriptor, file.uid, file.gid)
            os.fchmod(descriptor, file.mode)
        os.rename(temporary, path)
    except OSError as error:
        raise ApplyError(f"cannot write {path}: {error.strerror}") from error


def _write_in_place(path: Path, file: FileCopy) -> None:
    """Into the very file, which containers have bound: who reads it meanwhile may see a part."""
    try:
        with open(path, "r+b") as written:
            written.write(file.content)
            written.truncate()
            os.fchown(written.fileno(), file.uid, file.gid)
            os.fchmod(written.fileno(), file.mode)
    except OSError as error:
        raise ApplyError(f"cannot write {path}: {error.strerror}") from error


def remove_contents(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.rmdir()
    except OSError:
        return  # it is missing, or holds files of other projects
