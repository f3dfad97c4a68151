"""Archives that nobody would write: whatever is in them, nothing outside changes, and what is read
is what Python reads."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.images.layers import remove_directory
from engine.images.tar_reader import BLOCK, Kind, Member, TarReader
from engine.images.unpack import unpack_archive, unpack_layer
from tests.engine.images.archives import opened
from tests.engine.images.test_unpack import state

OUTSIDE = "@"  # stands for the folder that must not change
_PARTS = st.sampled_from(
    ["a", "b", "c", ".", "..", "", "\udcff", "x" * 256, ".wh.a", ".wh.b", ".wh..wh..opq",
     ".wh..wh.plnk", ".wh..", ".wh...", ".wh.", OUTSIDE]
)  # fmt: skip
_PATHS = st.lists(_PARTS, min_size=1, max_size=4).map("/".join)
_TYPES = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE,
     tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.AREGTYPE]
)  # fmt: skip
_XATTRS = st.sampled_from(
    ["user.a", "trusted.overlay.opaque", "trusted.overlay.redirect", "security.capability",
     "security.selinux", "system.posix_acl_access", "user.overlay.redirect"]
)  # fmt: skip


@st.composite
def entries(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(draw(_PATHS))
    info.type = draw(_TYPES)
    info.linkname = draw(_PATHS)
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.integers(0, 70_000)), draw(st.integers(0, 70_000))
    info.mtime = draw(st.integers(0, 1 << 34))
    info.devmajor, info.devminor = draw(st.sampled_from([(0, 0), (1, 3), (8, 0)]))
    if info.type == tarfile.AREGTYPE and info.name.endswith("/"):
        info.type = tarfile.REGTYPE  # else a folder; to Python not with the name in a PAX header
    content = draw(st.binary(max_size=600)) if info.isreg() else b""
    info.size = len(content)
    if draw(st.booleans()):
        info.pax_headers = {f"SCHILY.xattr.{draw(_XATTRS)}": "/"}
    return info, content


def written(members: list[tuple[tarfile.TarInfo, bytes]], style: int, outside: str = "o") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style, errors="surrogateescape") as archive:
        for info, content in members:
            info.name = info.name.replace(OUTSIDE, outside)
            info.linkname = info.linkname.replace(OUTSIDE, outside)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


_STYLES = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


@pytest.mark.kernel
@pytest.mark.parametrize("unpack", [unpack_layer, unpack_archive])
@settings(deadline=None, max_examples=150)
@given(members=st.lists(entries(), min_size=1, max_size=8), style=_STYLES)
def test_nothing_outside_changes(
    unpack: object, members: list[tuple[tarfile.TarInfo, bytes]], style: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        outside, root = Path(place, "outside"), Path(place, "root")
        (outside / "a").mkdir(parents=True)
        (outside / "b").write_text("secret")
        root.mkdir()
        before = state(outside)
        descriptor = opened(root)
        try:
            work = unpack_layer if unpack is unpack_layer else unpack_archive
            with contextlib.suppress(InvalidRequest):
                work(TarReader(io.BytesIO(written(members, style, str(outside)))), descriptor)
        finally:
            os.close(descriptor)
        assert state(outside) == before
        assert sorted(os.listdir(place)) == ["outside", "root"]
        for path in (root, *root.rglob("*")):
            steering = [
                key for key in os.listxattr(path, follow_symlinks=False) if "overlay" in key
            ]
            assert set(steering) <= {"trusted.overlay.opaque"}
        remove_directory(root)


_KINDS = {
    tarfile.REGTYPE: Kind.FILE, tarfile.AREGTYPE: Kind.FILE, tarfile.CONTTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY, tarfile.SYMTYPE: Kind.SYMLINK, tarfile.LNKTYPE: Kind.LINK,
    tarfile.CHRTYPE: Kind.CHARACTER, tarfile.BLKTYPE: Kind.BLOCK, tarfile.FIFOTYPE: Kind.FIFO,
}  # fmt: skip


def ours(content: bytes) -> list[tuple[object, ...]]:
    reader = TarReader(io.BytesIO(content))
    return [_row(member, _whole(reader)) for member in reader]


def _whole(reader: TarReader) -> bytes:
    found = b""
    while chunk := reader.read(1 << 16):
        found += chunk
    return found


def _row(member: Member, content: bytes) -> tuple[object, ...]:
    is_link = member.kind in (Kind.LINK, Kind.SYMLINK)
    return (member.name.rstrip("/"), member.kind, member.mode, member.uid, member.gid,
            member.mtime // 10**9, member.link if is_link else "", content)  # fmt: skip


def pythons(content: bytes) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    with tarfile.open(fileobj=io.BytesIO(content), errors="surrogateescape") as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isreg() else None
            kind = _KINDS[info.type]
            is_link = kind in (Kind.LINK, Kind.SYMLINK)
            found.append(
                (info.name.rstrip("/"), kind, info.mode & 0o7777, info.uid, info.gid,
                 min(int(info.mtime), 1 << 33), info.linkname if is_link else "",
                 file.read() if file else b"")
            )  # fmt: skip
    return found


@settings(deadline=None, max_examples=300, derandomize=True)
@given(members=st.lists(entries(), min_size=1, max_size=6), style=_STYLES)
def test_it_is_read_as_python_reads_it(
    members: list[tuple[tarfile.TarInfo, bytes]], style: int
) -> None:
    content = written(members, style)
    assert ours(content) == pythons(content)


@settings(deadline=None, max_examples=400, derandomize=True)
@given(
    members=st.lists(entries(), min_size=1, max_size=3),
    style=_STYLES,
    changes=st.lists(
        st.tuples(
            st.integers(0, 2),  # which header
            st.sampled_from([0, 100, 108, 116, 124, 136, 156, 157, 263, 329, 482, 483]),
            st.binary(min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_a_torn_header_is_refused_or_read_as_python_reads_it(
    members: list[tuple[tarfile.TarInfo, bytes]],
    style: int,
    changes: list[tuple[int, int, bytes]],
) -> None:
    content = bytearray(written(members, style))
    for number, offset, change in changes:
        start = number * BLOCK
        if start + BLOCK <= len(content):
            content[start + offset : start + offset + len(change)] = change
            header = content[start : start + BLOCK]
            total = sum(header[:148]) + 256 + sum(header[156:])
            content[start + 148 : start + 156] = b"%06o\0 " % total
    try:
        found = ours(bytes(content))
    except InvalidRequest:
        return
    with contextlib.suppress(tarfile.TarError, KeyError, ValueError, OverflowError, EOFError):
        expected = pythons(bytes(content))
        # Python stops in silence at what it can't read; what both read is the same.
        assert [row[0] for row in found][: len(expected)] == [row[0] for row in expected]
        assert [row[-1] for row in found][: len(expected)] == [row[-1] for row in expected]
