"""The files of a log as its shim writes them, read in whole lines.

`path` is the newest file, `path.1`, `path.2` ... are older, or packed: `path.1.gz`. They are
rotated and packed while they are read: an open file is recognised by its inode, one that was
packed by what its header says it was.
"""

import contextlib
import os
import tempfile

from engine.runtime.log_rotation import PACKED, packed_inode, packed_size, unpack_file

# Big enough for the JSON module to run at its full speed, small enough for the event loop.
CHUNK = 128 * 1024
# A line of the file can't be longer than this; more is a damaged file.
LONGEST_LINE = 1024 * 1024


class LogFile:
    """One open file, read from `offset` on; one that is packed has to be unpacked before."""

    def __init__(self, path: str) -> None:
        self._folder = os.path.dirname(path)
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.offset = 0
        self.is_packed = self._was_packed = path.endswith(PACKED)
        status = os.fstat(self.descriptor)
        self._inode = packed_inode(self.descriptor) if self.is_packed else status.st_ino
        # Of a file that is packed: of what it was. It is not written to any more.
        self._size = packed_size(self.descriptor) if self.is_packed else 0
        self._changed = status.st_mtime_ns

    def is_same(self, other: "LogFile") -> bool:
        """Whether it has, or was packed from, the same file."""
        if self._inode != other._inode:
            return False
        if not self._was_packed and not other._was_packed:
            return True  # both are open: the number is nobody else's
        return self._last_state() == other._last_state()

    def _last_state(self) -> tuple[int, int]:
        if self._was_packed:
            return self._size, self._changed
        status = os.fstat(self.descriptor)
        return status.st_size & 0xFFFFFFFF, status.st_mtime_ns

    def unpack(self) -> None:
        """Blocks. Raises OSError."""
        with tempfile.TemporaryFile(dir=self._folder) as file:
            unpack_file(self.descriptor, file.fileno())
            os.dup2(file.fileno(), self.descriptor, inheritable=False)
        self.is_packed = False

    def read_lines(self) -> bytes:
        """Up to CHUNK bytes of whole lines; b"" if there is none yet."""
        size = CHUNK
        if os.fstat(self.descriptor).st_size < self.offset:
            self.offset = 0  # a log of one file is emptied when it is full
        while True:
            data = os.pread(self.descriptor, size, self.offset)
            end = data.rfind(b"\n") + 1
            if end or len(data) < size:
                break
            if size >= LONGEST_LINE:
                end = len(data)
                break
            size *= 4
        self.offset += end
        return data[:end]

    def skip_to_tail(self, lines: int) -> int:
        """Go to where the last `lines` lines begin; returns how many of them aren't in here."""
        position = os.fstat(self.descriptor).st_size
        # They begin after the newline before them.
        missing = lines + 1
        while position > 0:
            start = max(0, position - CHUNK)
            block = os.pread(self.descriptor, position - start, start)
            count = block.count(b"\n")
            if count >= missing:
                cut = len(block)
                for _ in range(missing):
                    cut = block.rfind(b"\n", 0, cut)
                self.offset = start + cut + 1
                return 0
            missing -= count
            position = start
        return missing - 1

    def close(self) -> None:
        os.close(self.descriptor)


def open_files(path: str, max_file: int) -> list[LogFile]:
    """Oldest first. Looked for from the newest on, a rotation in between makes none be missed,
    but shows some twice: they are kept once."""
    files: list[LogFile] = []
    for name in _names(path, max_file):
        with contextlib.suppress(FileNotFoundError):
            file = LogFile(name)
            if any(file.is_same(other) for other in files):
                file.close()
            else:
                files.append(file)
    files.reverse()
    return files


def following_file(path: str, max_file: int, last: LogFile | None) -> LogFile | None:
    """The file that was begun after `last`, None if that is the newest; without `last`, the
    oldest."""
    newer: LogFile | None = None
    for name in _names(path, max_file):
        try:
            file = LogFile(name)
        except FileNotFoundError:
            continue
        if last is not None and file.is_same(last):
            file.close()
            return newer
        if newer is not None:
            newer.close()
        newer = file
    # Rotated out of existence while the client was slow: go on with the oldest there is.
    return newer


def _names(path: str, max_file: int) -> list[str]:
    """Newest first. One that is being packed has both names for a moment: in this order none is
    missed."""
    older = [f"{path}.{index}{end}" for index in range(1, max_file) for end in ("", PACKED)]
    return [path, *older]
