from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidRequest
from engine.images.tar_reader import Kind, Member, TarReader, parse_pax
from engine.images.tar_writer import END, member_head, padding
from tests.engine.images.archives import entry, tar


def members(content: bytes) -> list[tuple[Member, bytes]]:
    reader = TarReader(io.BytesIO(content))
    found = []
    for member in reader:
        data = b""
        while chunk := reader.read(1000):
            data += chunk
        found.append((member, data))
    return found


def block(**fields: bytes) -> bytes:
    """A header block by hand, its checksum right."""
    places = {
        "name": (0, 100), "mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12),
        "mtime": (136, 12), "kind": (156, 1), "link": (157, 100), "major": (329, 8),
        "minor": (337, 8),
    }  # fmt: skip
    raw = bytearray(512)
    raw[257:265] = b"ustar\x0000"
    for key, value in {"name": b"x", "kind": b"0", **fields}.items():
        start, length = places[key]
        raw[start : start + length] = value.ljust(length, b"\0")
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


def pax(records: bytes) -> bytes:
    return block(kind=b"x", size=b"%o" % len(records)) + records + padding(len(records))


BAD = {
    "no tar": b"x" * 512,
    "half a block": b"x" * 100,
    "wrong checksum": b"y" + block()[1:],
    "negative size": block(size=b"\xff" * 12) + END,
    "negative octal": block(size=b"-1") + END,
    "huge size": block(size=b"\x80" + b"\x7f" * 11) + END,
    "not octal": block(size=b"9") + END,
    "signed": block(mode=b"+644") + END,
    "content missing": block(size=b"1000"),
    "unknown type": block(kind=b"Q") + END,
    "owner -1": block(uid=b"\x80\0\0\0\xff\xff\xff\xff") + END,
    "device of no kernel": block(kind=b"3", major=b"7777777") + END,
    "long name without a member": block(kind=b"L", size=b"1") + b"n" + b"\0" * 511 + END,
    "header of 2 MiB": block(kind=b"x", size=b"10000000") + b"\0" * (2 << 20),
    "name of 2 MiB": block(kind=b"L", size=b"10000000") + b"\0" * (2 << 20),
    "endless header": block(kind=b"x", size=b"\x80" + b"\x7f" * 11),
    "NUL in a name": pax(b"13 path=a\0bc\n") + block() + END,
    "PAX size is negative": pax(b"11 size=-1\n") + block() + END,
    "PAX size is no number": pax(b"11 size=1x\n") + block() + END,
    "PAX length too short": pax(b"3 path=a\n") + block() + END,
    "PAX length too long": pax(b"99 path=a\n") + block() + END,
    "PAX length zero": pax(b"0 path=a\n") + block() + END,
    "PAX without end": pax(b"9 path=ab") + block() + END,
    "sparse beyond its size": pax(b"22 GNU.sparse.major=0\n22 GNU.sparse.minor=1\n"
                                  b"25 GNU.sparse.map=50,100\n24 GNU.sparse.size=100\n")
    + block(size=b"144") + b"\0" * 512 + END,
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_header_is_an_error(case: str) -> None:
    with pytest.raises(InvalidRequest):
        members(BAD[case])


def test_an_archive_may_end_without_its_mark() -> None:
    whole = tar([entry("a", b"x" * 512), entry("b", b"y")])
    ended = whole[: 512 * 4]
    assert [member.name for member, _ in members(ended)] == ["a", "b"]
    assert members(b"") == []


def test_the_last_file_may_end_without_its_padding() -> None:
    """As in what `docker build -f -` sends."""
    content = block(size=b"3") + b"abc"
    assert [data for _, data in members(content)] == [b"abc"]
    with pytest.raises(InvalidRequest):
        members(content + b"\0")


def test_content_that_is_not_read_is_skipped() -> None:
    reader = TarReader(io.BytesIO(tar([entry("a", b"x" * 5000), entry("b", b"y")])))
    assert [member.name for member in reader] == ["a", "b"]


def test_what_follows_the_end_is_drained() -> None:
    """Else a checksum behind it would never be looked at."""
    stream = io.BytesIO(tar([entry("a")]) + b"\0" * 100_000)
    list(TarReader(stream))
    assert stream.read() == b""


def test_old_archives_mark_folders_by_a_slash() -> None:
    [(member, _)] = members(block(name=b"dir/", kind=b"\0") + END)
    assert member.kind is Kind.DIRECTORY


def test_a_global_header_counts_for_all() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers={"mtime": "7"}) as archive:
        archive.addfile(tarfile.TarInfo("a"))
        archive.addfile(tarfile.TarInfo("b"))
    assert [member.mtime for member, _ in members(buffer.getvalue())] == [7 * 10**9] * 2


names = st.text(min_size=1, max_size=150).filter(
    lambda name: "\0" not in name and not name.endswith("/") and name.isprintable()
)
made = st.builds(
    Member,
    name=names,
    kind=st.sampled_from([Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK, Kind.FIFO]),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 0xFFFFFFFE),
    gid=st.integers(0, 0xFFFFFFFE),
    size=st.just(0),
    mtime=st.integers(0, 2 * 10**18),
    link=st.just(""),
    xattrs=st.dictionaries(
        st.sampled_from(["user.a", "security.capability"]), st.binary(max_size=50)
    ),
)


@settings(deadline=None, max_examples=200)
@given(made)
def test_what_is_written_is_read_again(member: Member) -> None:
    [(found, _)] = members(member_head(member) + END)
    assert found.name.rstrip("/") == member.name.rstrip("/")
    assert (found.kind, found.mode, found.uid, found.gid) == (
        member.kind, member.mode, member.uid, member.gid,
    )  # fmt: skip
    assert (found.mtime, dict(found.xattrs)) == (member.mtime, dict(member.xattrs))
    with tarfile.open(fileobj=io.BytesIO(member_head(member) + END)) as archive:
        [info] = archive.getmembers()
    assert info.uid == member.uid
    assert info.name.rstrip("/") == member.name.rstrip("/")


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=1500))
def test_rubbish_is_an_error_or_nothing(content: bytes) -> None:
    for stream in (content, block(kind=b"x", size=b"1000") + content, pax(content[:512]) + block()):
        try:
            members(stream)
        except InvalidRequest:
            continue


def test_pax_records_may_hold_anything() -> None:
    assert parse_pax(b"16 path=a\nb=c\nd\n") == {"path": b"a\nb=c\nd"}
