"""JSON documents on disk that are whole or absent, also after a crash or power loss."""

import contextlib
import json
import os
from pathlib import Path


def write_record(path: Path, document: object) -> None:
    """Replace `path` atomically and durably: temporary file, fsync, rename, fsync of the folder.

    The file has mode 0600. Raises OSError (ENOSPC and the like) and then leaves no piece behind.
    """
    text = json.dumps(document, separators=(",", ":")).encode()
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with open(descriptor, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


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
