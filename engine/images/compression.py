"""Streams of bytes: compressed or not, decided by their first bytes; complete, or an error.

What is read is bounded in memory whatever a stream claims, and in length: a stream that grows far
beyond what such data does is refused. Checksums at the end of gzip, zstd, xz and bzip2 are checked,
and a stream that stops before its end is an error, not a short file.
"""

import bz2
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

import zstandard
from isal import isal_zlib

from engine.errors import InvalidRequest
from engine.images.zstd_frame import MAGIC, Frame

CHUNK = 1 << 17
# Of what decoders get and give. In larger pieces, which grow while they are made, the C library's
# memory falls to bits that it keeps: 45 MB a thread of 128 KiB, 8 MB of these, in the same time.
_PIECE = 1 << 15
_GZIP = 31  # wbits: a window of 32 KiB, with the head and the checksum of gzip
_LEVEL = 3  # of 3
# What decoders may need, of which two work at once. xz -9 needs 65 MB, zstd 32 at level 20; levels
# 21 and 22 and --long need more, which is refused.
_XZ_MEMORY = 80 << 20
_ZSTD_WINDOW = 32 << 20


class Source(Protocol):
    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a compressed stream may grow."""

    total: int = 256 << 30  # bytes
    ratio: int = 1100  # deflate reaches 1032 on zeros
    free: int = 1 << 30  # bytes that may come out before the ratio counts


class _Decoder(Protocol):
    """Of one compressed member; after `finished`, `rest` is what follows it."""

    @property
    def finished(self) -> bool: ...
    @property
    def rest(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decode(self, chunk: bytes) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._state = isal_zlib.decompressobj(wbits=_GZIP)

    @property
    def finished(self) -> bool:
        return self._state.eof

    @property
    def rest(self) -> bytes:
        return self._state.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._state.unconsumed_tail

    def decode(self, chunk: bytes) -> bytes:
        return self._state.decompress(self._state.unconsumed_tail + chunk, _PIECE)


class _Bounded:
    """xz and bzip2: their decoders keep what they didn't use."""

    def __init__(self, state: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> None:
        self._state = state

    @property
    def finished(self) -> bool:
        return self._state.eof

    @property
    def rest(self) -> bytes:
        return self._state.unused_data

    @property
    def needs_input(self) -> bool:
        return self._state.needs_input

    def decode(self, chunk: bytes) -> bytes:
        return self._state.decompress(chunk, _PIECE)


class _Zstd:
    def __init__(self) -> None:
        self._state = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._frame = Frame()
        self._next: bytes | None = None

    @property
    def finished(self) -> bool:
        return self._frame.ended and self._next is None

    @property
    def rest(self) -> bytes:
        return self._frame.rest

    @property
    def needs_input(self) -> bool:
        return self._next is None

    def decode(self, chunk: bytes) -> bytes:
        self._frame.put(chunk)
        piece = self._next if self._next is not None else self._frame.take()
        if piece is None:
            return b""
        self._next = self._frame.take()
        return self._state.decompress(piece) if piece else b""


_MAGIC: tuple[tuple[bytes, str, Callable[[], _Decoder]], ...] = (
    (b"\x1f\x8b", "gzip", _Gzip),
    (MAGIC, "zstd", _Zstd),
    (b"\xfd7zXZ\x00", "xz", lambda: _Bounded(lzma.LZMADecompressor(memlimit=_XZ_MEMORY))),
    (b"BZh", "bzip2", lambda: _Bounded(bz2.BZ2Decompressor())),
)
# Its stub has a mistake: there it is an exception, not a class of exceptions.
_IGZIP_ERROR = cast(type[Exception], isal_zlib.error)
_ERRORS = (_IGZIP_ERROR, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)


def decompressed(source: Source, *, limits: Limits | None = None) -> "Decompressed":
    return Decompressed(source, limits or Limits())


def compress(source: Source, put: Callable[[bytes], None]) -> None:
    """As gzip, without a time in it. A tenth larger than what zlib makes of it in ten times the
    time."""
    state = isal_zlib.compressobj(level=_LEVEL, wbits=_GZIP)
    while chunk := source.read(CHUNK):
        if piece := state.compress(chunk):
            put(piece)
    put(state.flush())


class Decompressed:
    """A Source of the plain bytes. `kind` is "", "gzip", "zstd", "xz" or "bzip2"."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self._source = source
        self._limits = limits
        self._taken = 0
        head = b""
        while len(head) < 6 and (chunk := self._take(_PIECE)):
            head += chunk
        self.kind, make = next(
            ((kind, make) for magic, kind, make in _MAGIC if head.startswith(magic)), ("", None)
        )
        self._chunks = self._plain(head) if make is None else self._decoded(head, make)
        self._buffer = b""
        self._position = 0
        self._given = 0

    def read(self, size: int, /) -> bytes:
        if self._position == len(self._buffer):
            self._buffer, self._position = next(self._chunks, b""), 0
            self._count(len(self._buffer))
        taken = self._buffer[self._position : self._position + size]
        self._position += len(taken)
        return taken

    def _take(self, size: int) -> bytes:
        chunk = self._source.read(size)
        self._taken += len(chunk)
        return chunk

    def _plain(self, head: bytes) -> Iterator[bytes]:
        while head:
            yield head
            head = self._take(CHUNK)

    def _decoded(self, head: bytes, make: Callable[[], _Decoder]) -> Iterator[bytes]:
        waiting = head
        while waiting:
            decoder = make()
            while not decoder.finished:
                if decoder.needs_input and not waiting and not (waiting := self._take(_PIECE)):
                    raise InvalidRequest(f"cannot read the {self.kind} stream: unexpected EOF")
                fed, waiting = (waiting, b"") if decoder.needs_input else (b"", waiting)
                chunk = self._decode(decoder, fed)
                if chunk:
                    yield chunk
            waiting = decoder.rest + waiting or self._take(_PIECE)
            # tape blocks of old: zeros after the last member
            while waiting and not waiting.strip(b"\0"):
                waiting = self._take(CHUNK)

    def _decode(self, decoder: _Decoder, chunk: bytes) -> bytes:
        try:
            return decoder.decode(chunk)
        except _ERRORS as error:
            hint = ""
            if "too much memory" in str(error) or "Memory usage" in str(error):
                hint = ": compress it at a lower level, and without --long"
            raise InvalidRequest(f"cannot read the {self.kind} stream: {error}{hint}") from None

    def _count(self, size: int) -> None:
        self._given += size
        if self._given > self._limits.total:
            raise InvalidRequest(f"cannot unpack: more than {self._limits.total} bytes of content")
        if self.kind and self._given > self._limits.free + self._taken * self._limits.ratio:
            raise InvalidRequest(
                f"cannot unpack: {self._taken} bytes of {self.kind} grow to more than "
                f"{self._given}: a decompression bomb"
            )
