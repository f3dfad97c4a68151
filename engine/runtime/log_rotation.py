"""A log that is full becomes `path.1`, that `path.2`, and so on; on wish packed: `path.1.gz`.

A process of its own packs, so that who writes goes on writing, and the next rotation waits for its
end. What was packed says in its header which file it was: a reader that still has that one open
finds its place again.
"""

import contextlib
import os
import struct
import zlib

from engine.kernel import process
from engine.kernel.libc import KernelError

PACKED = ".gz"
_UNFINISHED = ".new"
_CHUNK = 256 * 1024
# RFC 1952: a header with an extra field, whose only part is ours; no time, from a Unix.
_HEADER = struct.Struct("<4sIBBH2sHQ")
_TRAILER = struct.Struct("<II")
_MAGIC = b"\x1f\x8b\x08\x04"
_OURS = b"pl"
_UNIX = 3


class Rotation:
    def __init__(self, path: str, max_file: int, *, compress: bool) -> None:
        self.path = path
        self.max_file = max_file
        self._compress = compress
        self._packing = -1  # a pipe that ends when the one who packs does
        if compress:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}.1{PACKED}{_UNFINISHED}")

    def rotate(self) -> None:
        """`path` itself is free afterwards. Raises OSError."""
        self.settle()
        for packed in ("", PACKED):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.path}.{self.max_file - 1}{packed}")
            for number in range(self.max_file - 1, 1, -1):
                with contextlib.suppress(FileNotFoundError):
                    before = f"{self.path}.{number - 1}{packed}"
                    os.replace(before, f"{self.path}.{number}{packed}")
        os.replace(self.path, f"{self.path}.1")

    def pack(self) -> None:
        """Begin to; what can't be begun leaves the file as it is."""
        if not self._compress:
            return
        ours, theirs = os.pipe()
        try:
            pid, pidfd = process.clone3()
        except KernelError:
            os.close(ours)
            os.close(theirs)
            return
        if pid == 0:
            _pack_apart(f"{self.path}.1", theirs)
        os.close(theirs)
        self._packing = ours
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        os.close(pidfd)

    def settle(self) -> None:
        """Wait for what is being packed."""
        if self._packing >= 0:
            os.read(self._packing, 1)
            os.close(self._packing)
            self._packing = -1


def _pack_apart(path: str, alive: int) -> None:
    """In a child, which ends at once; its own child, that nobody has to reap, does the work."""
    try:
        # No client may wait for the end of a connection that only this process still holds.
        process.close_all_but(alive)
        if process.clone3()[0] == 0:
            pack_file(path)
    finally:
        os._exit(0)


def pack_file(path: str) -> None:
    """Replace `path` by `path.gz`. Raises OSError and then leaves it as it was."""
    packed = path + PACKED
    unfinished = packed + _UNFINISHED
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    target = os.open(unfinished, flags, 0o640)
    try:
        status = os.fstat(source)
        _write_packed(source, target, status.st_ino)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        if os.stat(path).st_ino != status.st_ino:
            raise FileNotFoundError(path)  # rotated on, by a successor of who asked for it
        os.replace(unfinished, packed)
    except OSError:
        os.unlink(unfinished)
        raise
    os.unlink(path)


def _write_packed(source: int, target: int, inode: int) -> None:
    packer = zlib.compressobj(level=6, wbits=-zlib.MAX_WBITS)
    extra = 4 + 8
    _write(target, _HEADER.pack(_MAGIC, 0, 0, _UNIX, extra, _OURS, 8, inode))
    check = size = 0
    while chunk := os.read(source, _CHUNK):
        check = zlib.crc32(chunk, check)
        size += len(chunk)
        _write(target, packer.compress(chunk))
    _write(target, packer.flush() + _TRAILER.pack(check, size & 0xFFFFFFFF))


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def packed_inode(descriptor: int) -> int:
    """Of the file that was packed into this one; 0 if it wasn't packed here."""
    header = os.pread(descriptor, _HEADER.size, 0)
    if len(header) < _HEADER.size:
        return 0
    magic, *_, name, _, inode = _HEADER.unpack(header)
    return inode if (magic, name) == (_MAGIC, _OURS) else 0


def packed_size(descriptor: int) -> int:
    """Bytes of the file that was packed into this one, modulo 2**32."""
    status = os.fstat(descriptor)
    _, size = _TRAILER.unpack(os.pread(descriptor, _TRAILER.size, status.st_size - _TRAILER.size))
    return int(size)


def unpack_file(packed: int, target: int) -> None:
    """Blocks. Of a damaged file as much as can be read. Raises OSError."""
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    offset = 0
    with contextlib.suppress(zlib.error):
        while chunk := os.pread(packed, _CHUNK, offset):
            offset += len(chunk)
            _write(target, unpacker.decompress(chunk))
