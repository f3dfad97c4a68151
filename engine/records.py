"""JSON documents on disk that are whole or absent, also after a crash or power loss.

A document may hold frozen dataclasses, which are written field by field, and enums.
"""

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path

_LONGEST = 64 << 10  # bytes of a file of records, about


def encode(document: object) -> bytes:
    return _ENCODER.encode(document).encode()


def fields_of(value: object) -> object:
    """A value that JSON doesn't know, by one that it does."""
    if (names := getattr(type(value), "__dataclass_fields__", None)) is not None:
        return {name: getattr(value, name) for name in names}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} can't be written as JSON")


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=fields_of)


def write_record(path: Path | str, document: object, *, durable: bool = True) -> None:
    """Replace `path` atomically and durably: temporary file, fsync, rename, fsync of the folder.

    Not `durable`: a crash of the machine may leave nothing of a new record, or an empty one, until
    `sync_record`. The file has mode 0600. Raises OSError (ENOSPC and the like) and then leaves no
    piece behind.
    """
    text = encode(document)
    folder, name = os.path.split(path)
    temporary = f"{folder}/.{name}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        with naming(path), open(descriptor, "wb") as stream:
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
        sync_directory(folder)


def sync_record(path: Path | str) -> None:
    """What was last written there is durable on return, and so is its name; unless it is gone."""
    with contextlib.suppress(FileNotFoundError):
        sync_file(path)
        sync_directory(os.path.dirname(path))


@contextlib.contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """A call on a descriptor that fails says of which file it was."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def begin_records(path: Path | str) -> None:
    """A file for `append_record`. Its name is durable when the caller has synced the folder. Raises
    FileExistsError where there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(path, flags, 0o600))


def append_record(path: Path | str, document: object) -> None:
    """Add a line to `path`, of which `last_record` reads the last whole one: one write, where a
    replaced file has the disk begin to write at once (ext4, auto_da_alloc).

    Durable once `sync_file` returns. A file that has grown long begins anew. Raises OSError and
    then leaves the last record what it was.
    """
    text = encode(document)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size > _LONGEST:
            write_record(path, document)
            return
        try:
            with naming(path):
                # First: the end of a line that a crash tore.
                if os.write(descriptor, b"\n" + text) <= len(text):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def last_record(path: Path) -> object:
    """None where there is none yet. Raises ValueError where there is no whole one."""
    content = path.read_bytes()
    if not content:
        return None
    for line in reversed(content.split(b"\n")):
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


def sync_file(path: Path | str) -> None:
    """Make what was written to `path` durable."""
    _sync(path, os.O_NOFOLLOW)


def sync_directory(path: Path | str) -> None:
    """Make names created, renamed or removed in `path` durable."""
    _sync(path, os.O_DIRECTORY)


def _sync(path: Path | str, flags: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
