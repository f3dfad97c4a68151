"""Reads a tar from a stream: ustar, PAX and GNU headers, sparse files. Nothing is written here.

Own code instead of tarfile because archives come from strangers: bounded headers, no negative
sizes, no seeking, names kept apart from what they may do.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType

from engine.errors import InvalidRequest
from engine.images.compression import Source

BLOCK = 512
MAX_HEADER = 1 << 20  # bytes of one PAX header or long name
MAX_SPARSE_PIECES = 100_000
MAX_SIZE = 1 << 43
_NO_XATTRS: Mapping[str, bytes] = MappingProxyType({})
_XATTR = "SCHILY.xattr."


class Kind(Enum):
    FILE = "file"
    LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


@dataclass(frozen=True, slots=True)
class Member:
    name: str  # as in the archive; undecodable bytes as surrogates
    kind: Kind
    mode: int  # permission bits, setuid, setgid, sticky
    uid: int
    gid: int
    size: int  # of the file; `stored` bytes of it are in the archive
    mtime: int  # nanoseconds
    link: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    stored: int = 0
    sparse: tuple[tuple[int, int], ...] | None = None  # pieces of data: offset, length


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.LINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


class TarReader:
    """Iterate for members; `read` gives the current one's content, and what isn't read is skipped.
    At the end the rest of the stream is drained, so that its checksum gets checked."""

    def __init__(
        self, source: Source, change: Callable[[Member], Member] = lambda member: member
    ) -> None:
        """`change`: what is read of a member, before anybody sees it."""
        self._source = source
        self._change = change
        self._left = 0  # bytes of the current member
        self._padding = 0
        self._global: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Member]:
        while (member := self._next()) is not None:
            yield self._change(member)
        while self._source.read(1 << 16):
            pass

    def read(self, size: int, /) -> bytes:
        chunk = self._source.read(min(size, self._left)) if self._left else b""
        if self._left and not chunk:
            raise InvalidRequest("cannot read the tar: unexpected EOF")
        self._left -= len(chunk)
        return chunk

    def _exactly(self, size: int) -> bytes:
        parts = []
        while size:
            chunk = self._source.read(size)
            if not chunk:
                raise InvalidRequest("cannot read the tar: unexpected EOF")
            parts.append(chunk)
            size -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _block(self) -> bytes | None:
        """The next header; None at the end of the archive, marked or not."""
        first = self._source.read(BLOCK)
        if not first:
            return None
        block = first if len(first) == BLOCK else first + self._exactly(BLOCK - len(first))
        return block if block.count(0) < BLOCK else None

    def _skip(self) -> None:
        while self._left:
            self.read(1 << 16)
        if self._padding:
            # After the last member it may be missing, as in what `docker build -f -` sends.
            first = self._source.read(self._padding)
            if first:
                self._exactly(self._padding - len(first))
            self._padding = 0

    def _next(self) -> Member | None:
        records: dict[str, bytes] = {}
        long_name = long_link = b""
        while True:
            self._skip()
            block = self._block()
            if block is None:
                if records or long_name or long_link:
                    raise InvalidRequest("cannot read the tar: it ends after an extended header")
                return None
            _verify(block)
            kind = block[156:157]
            if kind in b"xgLK":
                content = self._extension(_number(block[124:136], "size"))
                if kind == b"x":
                    records |= parse_pax(content)
                elif kind == b"g":
                    self._global |= parse_pax(content)
                elif kind == b"L":
                    long_name = content.rstrip(b"\0")
                else:
                    long_link = content.rstrip(b"\0")
                continue
            member = self._member(block, {**self._global, **records}, long_name, long_link)
            if member is not None:
                return member
            records, long_name, long_link = {}, b"", b""

    def _extension(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise InvalidRequest(
                f"cannot read the tar: a header of {size} bytes, at most {MAX_HEADER} allowed"
            )
        content = self._exactly(size)
        self._exactly(-size % BLOCK)
        return content

    def _member(
        self, block: bytes, records: Mapping[str, bytes], long_name: bytes, long_link: bytes
    ) -> Member | None:
        stored = _record_number(records, "size", _number(block[124:136], "size"))
        if not 0 <= stored <= MAX_SIZE:
            raise InvalidRequest(f"cannot read the tar: a member of {stored} bytes")
        kind = _KINDS.get(block[156:157])
        if kind not in (Kind.FILE, None):
            # Links carry the size of their target in some archives, and no content.
            stored = 0
        self._left, self._padding = stored, -stored % BLOCK
        if kind is None:
            if block[156:157] in b"DMNV":  # GNU: directory dumps, volumes, old long names
                return None
            raise InvalidRequest(
                f"cannot read the tar: unknown type {block[156:157]!r} of a member"
            )
        name = records.get("path") or long_name or _ustar_name(block)
        if block[156:157] == b"\0" and name.endswith(b"/"):
            # Before ustar there was no other way to say it.
            kind, stored = Kind.DIRECTORY, 0
            self._left = self._padding = 0
        member = Member(
            name=_decode(name),
            kind=kind,
            mode=_number(block[100:108], "mode") & 0o7777,
            uid=_owner(_record_number(records, "uid", _number(block[108:116], "uid"))),
            gid=_owner(_record_number(records, "gid", _number(block[116:124], "gid"))),
            size=stored,
            mtime=_mtime(records, block),
            link=_decode(records.get("linkpath") or long_link or _field(block[157:257])),
            device=_device(block) if kind in (Kind.CHARACTER, Kind.BLOCK) else (0, 0),
            xattrs=_xattrs(records),
            stored=stored,
        )
        return self._with_sparse_map(member, block, records)

    def _with_sparse_map(
        self, member: Member, block: bytes, records: Mapping[str, bytes]
    ) -> Member:
        if block[156:157] == b"S":
            return self._old_gnu_sparse(member, block)
        if "GNU.sparse.major" not in records and "GNU.sparse.map" not in records:
            return member
        if name := records.get("GNU.sparse.name"):
            member = replace(member, name=_decode(name))
        if records.get("GNU.sparse.major") == b"1":
            numbers = self._sparse_map_in_content()
        else:
            numbers = [_decimal(text) for text in records["GNU.sparse.map"].split(b",") if text]
        size = _record_number(
            records, "GNU.sparse.realsize", _record_number(records, "GNU.sparse.size", -1)
        )
        return self._sparse(member, size, numbers)

    def _old_gnu_sparse(self, member: Member, block: bytes) -> Member:
        numbers: list[int] = []
        part, count, extended = block[386:482], 4, block[482:483] not in (b"\0", b"0")
        size = _number(block[483:495], "size")
        while True:
            for index in range(count):
                entry = part[index * 24 : index * 24 + 24]
                if entry[0:1] == b"\0":
                    break
                numbers += [_number(entry[:12], "sparse"), _number(entry[12:24], "sparse")]
            if not extended:
                return self._sparse(member, size, numbers)
            if len(numbers) > 2 * MAX_SPARSE_PIECES:
                raise InvalidRequest("cannot read the tar: too many pieces in a sparse file")
            part = self._exactly(BLOCK)
            count, extended = 21, part[504:505] not in (b"\0", b"0")

    def _sparse_map_in_content(self) -> list[int]:
        """PAX 1.0: decimal lines at the head of the content, padded to a block."""
        text = b""
        wanted: int | None = None
        while True:
            piece = b""
            while len(piece) < BLOCK:
                chunk = self.read(BLOCK - len(piece))
                if not chunk:
                    raise InvalidRequest("cannot read the tar: a sparse map without end")
                piece += chunk
            text += piece
            if wanted is None and b"\n" in text:
                wanted = 1 + 2 * _decimal(text.split(b"\n", 1)[0])
                if wanted > 2 * MAX_SPARSE_PIECES:
                    raise InvalidRequest("cannot read the tar: too many pieces in a sparse file")
            if wanted is not None and text.count(b"\n") >= wanted:
                return [_decimal(line) for line in text.split(b"\n")[1:wanted]]
            if len(text) > MAX_HEADER * 4:
                raise InvalidRequest("cannot read the tar: a sparse map without end")

    def _sparse(self, member: Member, size: int, numbers: list[int]) -> Member:
        pieces = tuple(zip(numbers[::2], numbers[1::2], strict=False))
        end = total = 0
        for offset, length in pieces:
            if length < 0 or offset < end or offset + length > size:
                raise InvalidRequest(f"cannot read the tar: bad sparse map of {member.name!r}")
            end, total = offset + length, total + length
        if len(numbers) % 2 or not 0 <= size <= MAX_SIZE or total != self._left:
            raise InvalidRequest(f"cannot read the tar: bad sparse map of {member.name!r}")
        return replace(member, size=size, stored=total, sparse=pieces)


def parse_pax(content: bytes) -> dict[str, bytes]:
    """`length key=value\\n` records (pax(1), "pax Extended Header")."""
    records: dict[str, bytes] = {}
    position = 0
    sparse: list[bytes] = []
    while position < len(content):
        space = content.find(b" ", position, position + 20)
        length = _decimal(content[position:space]) if space > position else 0
        record = content[space + 1 : position + length]
        if length <= 0 or position + length > len(content) or not record.endswith(b"\n"):
            raise InvalidRequest("cannot read the tar: invalid PAX header")
        key, equals, value = record[:-1].partition(b"=")
        if not equals or not key:
            raise InvalidRequest("cannot read the tar: invalid PAX header")
        name = key.decode("utf-8", "surrogateescape")
        if name in ("GNU.sparse.offset", "GNU.sparse.numbytes"):
            sparse.append(value)  # format 0.0 repeats these keys
        else:
            records[name] = value
        position += length
    if sparse:
        records["GNU.sparse.map"] = b",".join(sparse)
    return records


def _verify(block: bytes) -> None:
    stored = _number(block[148:156], "checksum")
    unsigned = sum(block[:148]) + 256 + sum(block[156:])
    if stored == unsigned:
        return
    signed = unsigned - 256 * sum(byte > 127 for byte in block[:148] + block[156:])
    if stored != signed:
        raise InvalidRequest("archive/tar: invalid tar header")


def _number(raw: bytes, what: str) -> int:
    if raw[0] & 0x80:
        if raw[0] & 0x40:
            raise InvalidRequest(f"cannot read the tar: negative {what}")
        return int.from_bytes(bytes([raw[0] & 0x3F]) + raw[1:], "big")
    text = raw.partition(b"\0")[0].strip(b" \0")
    if not text:
        return 0
    try:
        # int() would take signs, underscores and blanks
        if text.strip(b"01234567"):
            raise ValueError
        return int(text, 8)
    except ValueError:
        raise InvalidRequest("archive/tar: invalid tar header") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise InvalidRequest("cannot read the tar: invalid number in an extended header")
    return int(text)


def _record_number(records: Mapping[str, bytes], key: str, default: int) -> int:
    return _decimal(records[key]) if key in records else default


def _owner(number: int) -> int:
    # -1 would mean "leave as it is" to chown(2).
    if number >= 0xFFFFFFFF:
        raise InvalidRequest(f"cannot read the tar: owner {number} is out of range")
    return number


def _mtime(records: Mapping[str, bytes], block: bytes) -> int:
    text = records.get("mtime")
    if text is None:
        seconds = 0 if block[136] & 0xC0 == 0xC0 else _number(block[136:148], "time")
        return min(seconds, 1 << 33) * 10**9
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    if text.startswith(b"-"):
        return 0  # before 1970; no file system that counts keeps it faithfully
    nanoseconds = _decimal(fraction[:9].ljust(9, b"0"))
    return min(_decimal(whole or b"0"), 1 << 33) * 10**9 + nanoseconds


def _device(block: bytes) -> tuple[int, int]:
    major, minor = _number(block[329:337], "device"), _number(block[337:345], "device")
    if major >= 1 << 12 or minor >= 1 << 20:
        raise InvalidRequest(f"cannot read the tar: no device has the number {major}:{minor}")
    return major, minor


def _xattrs(records: Mapping[str, bytes]) -> Mapping[str, bytes]:
    found = {
        key.removeprefix(_XATTR): value for key, value in records.items() if key.startswith(_XATTR)
    }
    return found or _NO_XATTRS


def _field(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _ustar_name(block: bytes) -> bytes:
    name = _field(block[:100])
    # GNU's own headers (`ustar  `) keep times where ustar has the prefix.
    prefix = _field(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return prefix + b"/" + name if prefix else name


def _decode(name: bytes) -> str:
    if b"\0" in name:
        raise InvalidRequest(f"cannot read the tar: NUL in the name {name!r}")
    return name.decode("utf-8", "surrogateescape")
