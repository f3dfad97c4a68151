"""JSON documents on disk that are whole or absent, also after a crash or power loss."""

import contextlib
import errno
import json
import os
from pathlib import Path

_LONGEST = 64 << 10  # bytes of a file of records, about


def write_record(path: Path, document: object, *, durable: bool = True) -> None:
    """Replace `path` atomically and durably: temporary file, fsync, rename, fsync of the folder.

    Without `durable` only atomically: a power loss may leave the old one. The file has mode 0600.
    Raises OSError (ENOSPC and the like) and then leaves no piece behind.
    """
    text = json.dumps(document, separators=(",", ":")).encode()
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(text)
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        sync_directory(path.parent)


def append_record(path: Path, document: object, *, durable: bool) -> None:
    """Add a line to `path`, of which `last_record` reads the last whole one: one write, where a
    replaced file has the disk begin to write at once (ext4, auto_da_alloc).

    A file that has grown long begins anew. The file has mode 0600. Raises OSError and then leaves
    the last record what it was.
    """
    text = json.dumps(document, separators=(",", ":")).encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size > _LONGEST:
            write_record(path, document, durable=durable)
            return
        try:
            # First: the end of a line that a crash tore.
            if os.write(descriptor, b"\n" + text) <= len(text):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            os.ftruncate(descriptor, size)
            if not size:
                os.unlink(path)
            raise
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if durable:
        sync_directory(path.parent)


def last_record(path: Path) -> object:
    """Raises FileNotFoundError, or ValueError where there is no whole record."""
    for line in reversed(path.read_bytes().split(b"\n")):
        with contextlib.suppress(ValueError):
            return json.loads(line)
    raise ValueError(f"there is no whole record in {path.name}")


def remove_torn(folder: Path) -> None:
    """Remove the pieces that a crash left of records in `folder` while they were written."""
    for path in folder.glob(".*.new"):
        path.unlink(missing_ok=True)


def read_record(path: Path) -> object:
    """The document at `path`. Raises FileNotFoundError, or ValueError where it is no JSON."""
    return json.loads(path.read_bytes())


def sync_directory(path: Path) -> None:
    """Make names created, renamed or removed in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
