"""A container's json-file log as its shim writes it: Docker's records, byte for byte faithful.

    {"log":"text\\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}

A line longer than 16 KiB is stored in pieces of 16 KiB, of which only the last ends in \\n; so does
not a last line without one. Bytes that are no UTF-8 are stored as lone surrogates (\\udc80 to
\\udcff, Python's surrogateescape): other readers show U+FFFD for them, as for Docker's own logs,
and ours gives back the very bytes. A chunk is transformed as a whole, with one time stamp.
"""

import contextlib
import errno
import os
import time
from collections.abc import Iterator

from engine.runtime.log_rotation import Rotation

PIECE = 16384  # bytes of a line in one record

_PLAIN = bytes(range(0x20, 0x7F)).replace(b'"', b"").replace(b"\\", b"") + b"\n"
_ESCAPES = {code: b"\\u%04x" % code for code in (*range(0x20), 0x7F)} | {
    ord("\t"): b"\\t",
    ord("\r"): b"\\r",
    ord('"'): b'\\"',
}
_NAMES = {1: b"stdout", 2: b"stderr"}


def escape(chunk: bytes) -> bytes:
    """The inside of a JSON string, except that line ends stay as they are."""
    special = set(chunk.translate(None, _PLAIN))
    if not special:
        return chunk
    # A few kinds of special bytes, however many of each: one pass a kind is the fast way.
    if 0x5C in special:
        chunk = chunk.replace(b"\\", b"\\\\")
    for code in special & _ESCAPES.keys():
        chunk = chunk.replace(bytes([code]), _ESCAPES[code])
    if max(special) >= 0x80:
        try:
            chunk.decode()
        except UnicodeDecodeError:
            text = chunk.decode("utf-8", "surrogateescape")
            return text.encode("utf-8", "backslashreplace")
    return chunk


class Clock:
    """Time stamps in RFC 3339 with nanoseconds; the seconds are formatted once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def stamp(self, nanoseconds: int) -> bytes:
        second, rest = divmod(nanoseconds, 1_000_000_000)
        if second != self._second:
            now = time.gmtime(second)
            self._second = second
            self._text = b"%04d-%02d-%02dT%02d:%02d:%02d" % now[:6]
        return b"%s.%09dZ" % (self._text, rest)


class LineBuffer:
    """Cuts one stream into what can be recorded now; keeps an unfinished line back."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, chunk: bytes) -> list[tuple[bytes, bool]]:
        """(text, ends in a line end) to be written; a text without one is a piece of a line."""
        text = self._kept + chunk if self._kept else chunk
        ready: list[tuple[bytes, bool]] = []
        start, length = 0, len(text)
        whole = 0  # where the run of ordinary lines, written as one, begins
        while start < length:
            # No line that begins at `start` and ends before `end` is longer than a piece.
            end = text.rfind(b"\n", start, start + PIECE + 1)
            if end >= 0:
                start = end + 1
            elif length - start >= PIECE:
                if whole < start:
                    ready.append((text[whole:start], True))
                ready.append((text[start : start + PIECE], False))
                start += PIECE
                whole = start
            else:
                break
        if whole < start:
            ready.append((text[whole:start], True))
        self._kept = text[start:]
        return ready

    def finish(self) -> bytes:
        """The last, unfinished line."""
        rest, self._kept = self._kept, b""
        return rest


class Lines:
    """What both streams say, cut into what can be recorded: (stream, text, ends in a line end)."""

    def __init__(self) -> None:
        self._buffers = {1: LineBuffer(), 2: LineBuffer()}

    def feed(self, stream: int, chunk: bytes) -> Iterator[tuple[int, bytes, bool]]:
        for text, ended in self._buffers[stream].feed(chunk):
            yield stream, text, ended

    def finish(self) -> Iterator[tuple[int, bytes, bool]]:
        """What never got its line end."""
        for stream, buffer in self._buffers.items():
            if rest := buffer.finish():
                yield stream, rest, False


class LogWriter:
    """Appends records to `path`, rotating it to `path.1` and on. A full disk costs records,
    never the container: `lost` counts them."""

    def __init__(
        self,
        path: str,
        max_size: int,
        max_file: int,
        attributes: str = "",
        *,
        compress: bool = False,
    ) -> None:
        """`attributes`: what each record has between its stream and its time."""
        self.path = path
        self._attributes = attributes.encode()
        self.lost = 0
        self._max_size = max_size
        self._rotation = Rotation(path, max(1, max_file), compress=compress)
        self._clock = Clock()
        self._lines = Lines()
        self._descriptor = -1
        self._size = 0
        self._open()
        self._size = cut_torn_record(self._descriptor)

    def write(self, stream: int, chunk: bytes) -> None:
        for source, text, ended in self._lines.feed(stream, chunk):
            self.record(source, text, ended, time.time_ns())

    def finish(self) -> None:
        """Write what never got its line end. The writer may be used on."""
        for stream, text, ended in self._lines.finish():
            self.record(stream, text, ended, time.time_ns())
        self._rotation.settle()

    def close(self) -> None:
        self._rotation.settle()
        os.close(self._descriptor)

    def record(self, stream: int, text: bytes, ended: bool, at: int) -> None:
        """`at`: nanoseconds since the epoch."""
        stamp = self._clock.stamp(at)
        close = b'","stream":"%s",%s"time":"%s"}\n' % (_NAMES[stream], self._attributes, stamp)
        escaped = escape(text)
        if ended:
            close = b"\\n" + close
            escaped = escaped[:-1]
        records = b'{"log":"' + escaped.replace(b"\n", close + b'{"log":"') + close
        if not self._max_size or self._size + len(records) <= self._max_size:
            self._append(records)
        else:
            self._append_rotating(records)

    def _append_rotating(self, records: bytes) -> None:
        start = 0
        while start < len(records):
            room = self._max_size - self._size
            end = records.rfind(b"\n", start, start + max(room, 0)) + 1
            if end <= start:
                if self._size:
                    self._rotate()
                    continue
                # One record longer than a whole file may be: it gets a file of its own.
                end = records.find(b"\n", start) + 1
            self._append(records[start:end])
            start = end

    def _append(self, records: bytes) -> None:
        rest = memoryview(records)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            self.lost += records.count(b"\n")
            # No half record stays, or the next one would be unreadable as well.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            return
        self._size += len(records)

    def _rotate(self) -> None:
        try:
            if self._rotation.max_file == 1:
                os.ftruncate(self._descriptor, 0)
            else:
                previous = self._descriptor
                self._rotation.rotate()
                self._open()
                os.close(previous)
                self._rotation.pack()
        except OSError:
            # Could not make a new file (full disk): the bound on size matters more.
            os.ftruncate(self._descriptor, 0)
        self._size = 0

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o640)


def cut_torn_record(descriptor: int) -> int:
    """Cut off what a crash left after the last whole record; the size that remains."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        cut = os.pread(descriptor, end - start, start).rfind(b"\n")
        if cut >= 0:
            end = start + cut + 1
            break
        end = start
    if end != size:
        os.ftruncate(descriptor, end)
    return end
