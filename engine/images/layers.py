"""Unpacked layers: <root>/<diff id>/ is a directory that overlayfs takes as a lower layer. Whole
once it has that name: unpacked elsewhere, checked, synced, then renamed."""

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.errors import InvalidRequest
from engine.images.compression import CHUNK, Source, decompressed
from engine.images.tar_reader import TarReader
from engine.images.unpack import remove_tree, unpack_layer
from engine.kernel.filesystem import syncfs
from engine.kernel.libc import KernelError
from engine.kernel.mount import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from engine.oci.digest import Digest, hex_part
from engine.records import sync_directory

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Staged:
    """A layer that waits under a temporary name."""

    path: Path
    diff_id: Digest
    size: int  # bytes of its files
    compression: str  # of the blob that it came from: "", "gzip", "zstd", ...


class _Hashed:
    """Passes a stream on in small pieces, hashed in large ones."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._checksum = hashlib.sha256()
        self._buffer = b""
        self._position = 0

    def read(self, size: int, /) -> bytes:
        if self._position == len(self._buffer):
            self._buffer, self._position = self._source.read(CHUNK), 0
            self._checksum.update(self._buffer)
        taken = self._buffer[self._position : self._position + size]
        self._position += len(taken)
        return taken

    @property
    def digest(self) -> Digest:
        return Digest("sha256:" + self._checksum.hexdigest())


class Layers:
    def __init__(self, root: Path, temporary: Path) -> None:
        self._folder = root
        self._temporary = temporary

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, diff_id: Digest) -> Path:
        return self._folder / hex_part(diff_id)

    def has(self, diff_id: Digest) -> bool:
        return self.path(diff_id).is_dir()

    def diff_ids(self) -> Iterator[Digest]:
        for name in os.listdir(self._folder):
            yield Digest(f"sha256:{name}")

    def unpack(
        self, blob: Source, *, expected: Digest | None, below: Sequence[Path] = ()
    ) -> Staged:
        """Unpack a layer's tar, compressed or not. `below`: the layers under it, top first."""
        stream = decompressed(blob)
        hashed = _Hashed(stream)
        path = self._temporary / f"layer-{secrets.token_hex(8)}"
        path.mkdir(mode=0o755)
        try:
            path.chmod(0o755)
            root = os.open(path, _DIRECTORY)
            try:
                unpacked = unpack_layer(TarReader(hashed), root)
                _take_attributes(root, unpacked.implied, below)
            finally:
                os.close(root)
            if expected is not None and hashed.digest != expected:
                raise InvalidRequest(
                    f"cannot unpack layer: its content is {hashed.digest}, "
                    f"the image's configuration says {expected}"
                )
        except BaseException:
            remove_directory(path)
            raise
        return Staged(path, hashed.digest, unpacked.size, stream.kind)

    def adopt(self, staged: Sequence[Staged]) -> None:
        """Make layers durable, then give them their names: one sync for all."""
        if not staged:
            return
        descriptor = os.open(self._temporary, _DIRECTORY)
        try:
            syncfs(descriptor)
        finally:
            os.close(descriptor)
        for layer in staged:
            try:
                os.rename(layer.path, self.path(layer.diff_id))
            except FileExistsError:
                remove_directory(layer.path)  # the same layer came in another way meanwhile
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
                remove_directory(layer.path)
        sync_directory(self._folder)

    def remove(self, diff_id: Digest) -> None:
        """Out of the way at once, whatever happens while the files go."""
        trash = self._temporary / f"trash-{secrets.token_hex(8)}"
        os.rename(self.path(diff_id), trash)
        remove_directory(trash)


def remove_directory(path: Path) -> None:
    folder = os.open(path.parent, _DIRECTORY)
    try:
        remove_tree(path.name, folder)
    finally:
        os.close(folder)


def _take_attributes(root: int, implied: Sequence[str], below: Sequence[Path]) -> None:
    """A directory that a layer needs and doesn't describe looks as in the layers below: a file
    removed in /tmp must not turn /tmp into an ordinary directory."""
    opened = [os.open(path, _DIRECTORY) for path in below]
    try:
        for name in implied:
            found = _first_directory(opened, name)
            if found is None or not _is_harmless(found):
                continue
            resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
            descriptor = openat2(root, name, _DIRECTORY, resolve=resolve)
            try:
                os.fchown(descriptor, found.st_uid, found.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
            finally:
                os.close(descriptor)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _is_harmless(found: os.stat_result) -> bool:
    """Images share layers: what one of them lays below must not open a directory of another, so
    that nothing is taken over but what root keeps to itself, or shares as /tmp is shared."""
    shared = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid == 0 and (not shared or bool(found.st_mode & stat.S_ISVTX))


def _first_directory(layers: Sequence[int], name: str) -> os.stat_result | None:
    for layer in layers:
        try:
            flags = os.O_PATH | os.O_NOFOLLOW
            found = openat2(layer, name, flags, resolve=RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
        except KernelError:  # this layer doesn't have it
            continue
        try:
            attributes = os.fstat(found)
        finally:
            os.close(found)
        return attributes if stat.S_ISDIR(attributes.st_mode) else None
    return None
