"""Pure: heads of tar members, ustar where they fit and PAX where they don't."""

from collections.abc import Mapping

from engine.images.tar_reader import BLOCK, Kind, Member

_TYPES = {
    Kind.FILE: b"0",
    Kind.LINK: b"1",
    Kind.SYMLINK: b"2",
    Kind.CHARACTER: b"3",
    Kind.BLOCK: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
END = b"\0" * (2 * BLOCK)


def padding(size: int) -> bytes:
    return b"\0" * (-size % BLOCK)


def member_head(member: Member) -> bytes:
    """The header blocks; `member.size` bytes of content and their padding follow them."""
    name = _encode(member.name)
    if member.kind is Kind.DIRECTORY and not name.endswith(b"/"):
        name += b"/"
    link = _encode(member.link)
    records: dict[str, bytes] = {
        f"SCHILY.xattr.{key}": value for key, value in member.xattrs.items()
    }
    if len(name) > 100 or not name.isascii():
        records["path"] = name
    if len(link) > 100 or not link.isascii():
        records["linkpath"] = link
    seconds, fraction = divmod(member.mtime, 10**9)
    if fraction or not 0 <= seconds < 1 << 33:
        records["mtime"] = b"%d.%09d" % (seconds, fraction)
    for key, value, bits in (
        ("uid", member.uid, 21), ("gid", member.gid, 21), ("size", member.size, 33)
    ):  # fmt: skip
        if value >= 1 << bits:
            records[key] = b"%d" % value
    head = _block(member, name[:100], link[:100], _TYPES[member.kind])
    return _pax(records) + head if records else head


def _pax(records: Mapping[str, bytes]) -> bytes:
    content = b"".join(
        _record(key.encode("utf-8", "surrogateescape"), value) for key, value in records.items()
    )
    member = Member("PaxHeaders/entry", Kind.FILE, 0o644, 0, 0, len(content), 0)
    return _block(member, b"PaxHeaders/entry", b"", b"x") + content + padding(len(content))


def _record(key: bytes, value: bytes) -> bytes:
    """The length at its head counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def _block(member: Member, name: bytes, link: bytes, kind: bytes) -> bytes:
    seconds = min(max(member.mtime // 10**9, 0), (1 << 33) - 1)
    size = member.size if kind in b"0x" else 0
    block = b"".join(
        (
            name.ljust(100, b"\0"),
            _octal(member.mode, 8),
            _octal(member.uid if member.uid < 1 << 21 else 0, 8),
            _octal(member.gid if member.gid < 1 << 21 else 0, 8),
            _octal(size if size < 1 << 33 else 0, 12),
            _octal(seconds, 12),
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            b"\0" * 64,
            _octal(member.device[0], 8),
            _octal(member.device[1], 8),
        )
    ).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number)


def _encode(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
