"""Content-addressed files: <root>/sha256/<hex>. A file of that name is whole and is what its name
says: it was checked on the way in, and synced before it got the name."""

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidRequest
from engine.images.compression import CHUNK, Source
from engine.oci.digest import Digest, digest_of, hex_part
from engine.oci.document import MAX_DOCUMENT
from engine.records import sync_directory


@dataclass(frozen=True, slots=True)
class Written:
    """A file that waits under a temporary name; its content is known."""

    path: Path
    digest: Digest
    size: int


def write_temporary(source: Source, folder: Path, *, limit: int | None = None) -> Written:
    """Copies the stream to a new file in `folder`. Not yet durable."""

    def copy(put: Callable[[bytes], None]) -> None:
        size = 0
        while chunk := source.read(CHUNK):
            size += len(chunk)
            if limit is not None and size > limit:
                raise InvalidRequest(f"cannot store more than the {limit} bytes announced")
            put(chunk)

    return write_pieces(copy, folder)


def write_pieces(job: Callable[[Callable[[bytes], None]], object], folder: Path) -> Written:
    """The same with what `job(put)` puts."""
    path = folder / f"blob-{secrets.token_hex(8)}"
    checksum = hashlib.sha256()
    size = 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(path, flags, 0o600), "wb") as stream:

            def put(chunk: bytes) -> None:
                nonlocal size
                size += len(chunk)
                checksum.update(chunk)
                stream.write(chunk)

            job(put)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        raise
    return Written(path, Digest("sha256:" + checksum.hexdigest()), size)


class Blobs:
    def __init__(self, root: Path) -> None:
        self._folder = root / "sha256"

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: Digest) -> Path:
        return self._folder / hex_part(digest)

    def has(self, digest: Digest) -> bool:
        return self.path(digest).exists()

    def digests(self) -> Iterator[Digest]:
        for name in os.listdir(self._folder):
            yield Digest(f"sha256:{name}")

    def read(self, digest: Digest) -> bytes:
        """A document, checked again. Raises InvalidRequest if the file isn't what it was."""
        with open(self.path(digest), "rb") as stream:
            content = stream.read(MAX_DOCUMENT + 1)
        if digest_of(content) != digest:
            raise InvalidRequest(f"stored document {digest} is damaged")
        return content

    def adopt(self, written: Written) -> None:
        """Give a temporary file of the same file system its name. Durable afterwards, but for
        the name: `sync` after a batch."""
        descriptor = os.open(written.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(written.path, self.path(written.digest))

    def sync(self) -> None:
        sync_directory(self._folder)

    def remove(self, digest: Digest) -> None:
        self.path(digest).unlink(missing_ok=True)
