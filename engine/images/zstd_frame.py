"""Pure: a zstd frame cut into its blocks (RFC 8878, 3.1.1).

A block of 4 bytes may stand for 128 KiB, and the decoder can't be told to stop early: fed with one
block at a time it never gives more than that.
"""

from __future__ import annotations

from enum import Enum, auto

MAGIC = b"\x28\xb5\x2f\xfd"
MAX_BLOCK = 128 << 10
_SKIPPABLE = 0x184D2A50  # and the 15 after it
_LEAST_HEAD = 8
_RLE = 1
_DICTIONARY_BYTES = (0, 1, 2, 4)
_SIZE_BYTES = (0, 2, 4, 8)


class _Stage(Enum):
    HEAD = auto()
    BLOCK = auto()
    CHECKSUM = auto()
    SKIPPED = auto()
    END = auto()


class Frame:
    def __init__(self) -> None:
        self._stage = _Stage.HEAD
        self._buffer = b""
        self._position = 0
        self._has_checksum = False
        self._to_skip = 0

    @property
    def ended(self) -> bool:
        return self._stage is _Stage.END

    @property
    def rest(self) -> bytes:
        """What was put and not taken."""
        return self._buffer[self._position :]

    def put(self, chunk: bytes) -> None:
        self._buffer, self._position = self.rest + chunk, 0

    def take(self) -> bytes | None:
        """The head, one block, or the checksum; empty for what stands for nothing. None: that is
        not there as a whole yet. Raises ValueError for what is no frame."""
        there = len(self._buffer) - self._position
        match self._stage:
            case _Stage.HEAD:
                return None if there < _LEAST_HEAD else self._head(there)
            case _Stage.BLOCK:
                return None if there < 3 else self._block(there)
            case _Stage.CHECKSUM:
                return None if there < 4 else self._taken(4, _Stage.END)
            case _Stage.SKIPPED:
                size = min(there, self._to_skip)
                self._to_skip -= size
                self._taken(size, _Stage.SKIPPED if self._to_skip else _Stage.END)
                return b"" if size or not self._to_skip else None
        return None

    def _head(self, there: int) -> bytes | None:
        start = self._position
        magic = self._buffer[start : start + 4]
        if int.from_bytes(magic, "little") & ~0xF == _SKIPPABLE:
            self._to_skip = int.from_bytes(self._buffer[start + 4 : start + 8], "little")
            self._taken(8, _Stage.SKIPPED)
            return b""
        if magic != MAGIC:
            raise ValueError("unknown frame descriptor")
        descriptor = self._buffer[start + 4]
        is_single_segment = bool(descriptor & 0x20)
        size = 5 + (not is_single_segment) + _DICTIONARY_BYTES[descriptor & 3]
        size += _SIZE_BYTES[descriptor >> 6] or is_single_segment
        if there < size:
            return None
        self._has_checksum = bool(descriptor & 4)
        return self._taken(size, _Stage.BLOCK)

    def _block(self, there: int) -> bytes | None:
        start = self._position
        head = int.from_bytes(self._buffer[start : start + 3], "little")
        is_last, kind, length = head & 1, head >> 1 & 3, head >> 3
        size = 3 + (1 if kind == _RLE else length)
        if size > 3 + MAX_BLOCK:
            raise ValueError(f"a block of {length} bytes")
        if there < size:
            return None
        after = _Stage.CHECKSUM if self._has_checksum else _Stage.END
        return self._taken(size, after if is_last else _Stage.BLOCK)

    def _taken(self, size: int, stage: _Stage) -> bytes:
        start = self._position
        self._position += size
        self._stage = stage
        return self._buffer[start : self._position]
