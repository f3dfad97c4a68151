from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.images.compression import Limits, decompressed

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda plain: plain,
    "gzip": gzip.compress,
    "zstd": lambda plain: zstandard.ZstdCompressor(write_checksum=True).compress(plain),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
PACKED = [kind for kind in COMPRESSORS if kind]
PLAIN = os.urandom(50_000) + b"abc" * 100_000


class Slow:
    """Gives a few bytes at a time, as a network may."""

    def __init__(self, content: bytes, step: int) -> None:
        self._stream = io.BytesIO(content)
        self._step = step

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._step))


def read_all(content: bytes, *, limits: Limits | None = None, step: int = 1 << 20) -> bytes:
    stream = decompressed(Slow(content, step), limits=limits)
    parts = []
    while chunk := stream.read(1 << 16):
        parts.append(chunk)
    return b"".join(parts)


@pytest.mark.parametrize("step", [7, 4096, 1 << 20])
@pytest.mark.parametrize("kind", COMPRESSORS)
def test_what_was_compressed_comes_back(kind: str, step: int) -> None:
    packed = COMPRESSORS[kind](PLAIN)
    assert decompressed(io.BytesIO(packed)).kind == kind
    assert read_all(packed, step=step) == PLAIN


@pytest.mark.parametrize("kind", PACKED)
def test_several_members_are_one_stream(kind: str) -> None:
    packed = COMPRESSORS[kind](b"one") + COMPRESSORS[kind](b"two" * 9999)
    assert read_all(packed) == b"one" + b"two" * 9999
    assert read_all(packed, step=1) == b"one" + b"two" * 9999


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize("cut", [1, 4, 5000])
def test_a_cut_stream_is_an_error(kind: str, cut: int) -> None:
    with pytest.raises(InvalidRequest, match="unexpected EOF"):
        read_all(COMPRESSORS[kind](PLAIN)[:-cut])


@pytest.mark.parametrize("kind", PACKED)
def test_a_wrong_checksum_is_an_error(kind: str) -> None:
    packed = bytearray(COMPRESSORS[kind](PLAIN))
    where = -5 if kind == "gzip" else -2 if kind == "zstd" else len(packed) // 2
    packed[where] ^= 0x55
    with pytest.raises(InvalidRequest, match=f"cannot read the {kind} stream"):
        read_all(bytes(packed))


def test_rubbish_after_a_stream_is_an_error() -> None:
    with pytest.raises(InvalidRequest, match="cannot read the gzip stream"):
        read_all(gzip.compress(b"x") + b"rubbish")
    assert read_all(gzip.compress(b"x") + b"\0" * 512) == b"x"


def test_a_stream_that_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="more than 1000 bytes"):
        read_all(b"x" * 1001, limits=Limits(total=1000))
    with pytest.raises(InvalidRequest, match="decompression bomb"):
        read_all(gzip.compress(b"\0" * 1_000_000), limits=Limits(ratio=10, free=1000))


def test_a_bomb_takes_little_memory() -> None:
    """A zstd frame of 4-byte blocks that stand for 128 KiB each: 400 MB from 13 KB."""
    blocks = 3200
    header = b"\x28\xb5\x2f\xfd" + bytes([0x00, 0x38])  # window of 128 KiB
    block = struct.pack("<I", (131072 << 3) | (1 << 1))[:3] + b"\0"
    last = struct.pack("<I", (131072 << 3) | (1 << 1) | 1)[:3] + b"\0"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = decompressed(io.BytesIO(header + block * (blocks - 1) + last))
    total = 0
    while chunk := stream.read(1 << 16):
        total += len(chunk)
    assert total == blocks * 131072
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 << 10


def test_a_window_that_takes_too_much_memory_is_refused() -> None:
    wide = zstandard.ZstdCompressionParameters(window_log=27, compression_level=1)
    packed = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    with pytest.raises(InvalidRequest, match=r"too much memory.*: compress it at a lower level"):
        read_all(packed.compress(PLAIN) + packed.flush())


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_frames_that_stand_for_nothing_are_passed_over(step: int) -> None:
    """RFC 8878, 3.1.2; seekable layers end with some."""
    skipped = struct.pack("<II", 0x184D2A5E, 9) + b"123456789"
    packed = COMPRESSORS["zstd"](PLAIN) + skipped + struct.pack("<II", 0x184D2A50, 0)
    assert read_all(packed + COMPRESSORS["zstd"](b"end"), step=step) == PLAIN + b"end"
    with pytest.raises(InvalidRequest, match="unexpected EOF"):
        read_all(packed[:-9])
    with pytest.raises(InvalidRequest, match="unknown frame descriptor"):
        read_all(packed + b"rubbish there")


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_anything_is_content_or_an_error(content: bytes) -> None:
    for magic in (b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh9"):
        try:
            read_all(magic + content, limits=Limits(total=10 << 20))
        except InvalidRequest:
            continue


def test_raw_deflate_is_no_gzip() -> None:
    assert read_all(zlib.compress(b"x")) == zlib.compress(b"x")


def test_memory_is_not_kept_in_bits() -> None:
    """In a process of its own: what others have freed there would be taken first."""
    script = """
import io, os, re
from pathlib import Path
from isal import isal_zlib
from engine.images.compression import decompressed

def held() -> int:
    found = re.search("RssAnon:\\\\s+([0-9]+)", Path("/proc/self/status").read_text())
    return int(found[1])

block = os.urandom(1 << 20)
plain = b"".join(block if number % 2 else b"abcdefgh" * (1 << 17) for number in range(64))
packed = isal_zlib.compress(plain, 3, 31)
del plain
before = held()
for _ in range(3):
    content = decompressed(io.BytesIO(packed))
    while content.read(1 << 17):
        pass
print(held() - before)
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100
    ).stdout
    assert int(said) < 4000  # KB
