"""Reading of json-file logs: since, until, tail, timestamps, across rotated files, following.

A line of a file is one line of output, or a part of one longer than 16 KiB (then without its
newline). Which files there are is `log_files`' subject.
"""

import asyncio
import contextlib
import json
import os
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engine.containers.log_files import LogFile, following_file, open_files
from engine.containers.model import LogQuery
from engine.kernel import inotify

_header = struct.Struct(">BxxxL").pack
# What follows the text of nearly every line, up to its time: then the first backslash in the line
# is that of the \n here, and nothing in it needs decoding. The JSON module takes twice as long.
_ENDS = {b'\\n","stream":"stdout","time":"': 1, b'\\n","stream":"stderr","time":"': 2}
_BEGIN = b'{"log":"'
# Rows of one tail from which on it pays to render them together.
_RUN = 16
_STREAMS = {"stdout": 1, "stderr": 2}
_LAST = 253402300799 * 10**9  # the last second of the year 9999


def stamp(nanoseconds: int) -> str:
    """RFC 3339 with nine digits, in UTC: such texts sort as their times do. Clients mean the
    beginning of all times by years before the first, so before 1970 all is one, as after 9999."""
    seconds, rest = divmod(min(max(nanoseconds, 0), _LAST), 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def _full(text: str) -> bytes:
    """Docker's own files leave out zeros at the end of a fraction."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<9}Z".encode()


@dataclass(slots=True)
class Renderer:
    """Lines of the file -> bytes for the wire."""

    query: LogQuery
    tty: bool
    details: bytes = b""  # ahead of each line
    since: bytes = b""
    until: bytes = b""
    ended: bool = False  # a line after `until` was seen
    _open_lines: set[int] = field(default_factory=set)  # streams in the middle of a line

    def __post_init__(self) -> None:
        self.since = stamp(self.query.since).encode() if self.query.since else b""
        self.until = stamp(self.query.until).encode() if self.query.until else b""

    def render(self, lines: bytes) -> bytes:
        rows = lines.split(b"\n")
        pieces: list[bytes] = []
        query = self.query
        plain = query.stdout and query.stderr
        plain = plain and not (query.timestamps or self.since or self.until or self.details)
        append, header, ends, tty = pieces.append, _header, _ENDS, self.tty
        known = b""  # the tail whose run was looked for
        index = 0
        while index < len(rows) and not self.ended:
            row = rows[index]
            index += 1
            end = row.find(b"\\", 8)
            tail = row[end:]
            number = ends.get(tail[:-32])
            if number is not None and row.startswith(_BEGIN):
                text, moment = row[8:end] + b"\n", tail[-32:-2]
            else:
                entry = _decoded(row)
                if entry is None:
                    continue
                number, text, moment = entry
                tail = b""
            if plain:
                append(text if tty else header(number, len(text)) + text)
            else:
                self._choose(number, text, moment, append)
            if tail != known:
                known = tail
                if tail and index + _RUN <= len(rows) and rows[index + _RUN - 1].endswith(tail):
                    index = self._render_run(rows, index, number, tail, pieces)
        return b"".join(pieces)

    def _choose(
        self, number: int, text: bytes, moment: bytes, append: Callable[[bytes], None]
    ) -> None:
        if self.until and moment > self.until:
            self.ended = True
            return
        continues = number in self._open_lines
        if text.endswith(b"\n"):
            self._open_lines.discard(number)
        else:
            self._open_lines.add(number)
        if self._shows(number, moment):
            if self.details and not continues:
                text = self.details + text
            if self.query.timestamps and not continues:
                text = b"%b %b" % (moment, text)
            append(text if self.tty else _header(number, len(text)) + text)

    def _shows(self, number: int, moment: bytes) -> bool:
        return moment >= self.since and (self.query.stdout if number == 1 else self.query.stderr)

    def _render_run(
        self, rows: list[bytes], index: int, number: int, tail: bytes, pieces: list[bytes]
    ) -> int:
        """Rows of one stream and time, as they have that the shim read at once: all in a few
        steps. Returns the index of what comes after them."""
        moment = tail[-32:-2]
        end = _run_end(rows, index, tail)
        if self.ended or (texts := _texts(rows[index:end], tail)) is None:
            return index
        if self._shows(number, moment):
            prefix = (moment + b" " if self.query.timestamps else b"") + self.details
            heads = _Heads(number, prefix, self.tty)
            framed = [b"\n"] * (3 * len(texts))
            framed[::3] = map(heads.__getitem__, map(len, texts))
            framed[1::3] = texts
            pieces += framed
        return end


class _Heads(dict[int, bytes]):
    """What goes before a line, by the length of its text without the line end."""

    def __init__(self, number: int, prefix: bytes, tty: bool) -> None:
        self._number, self._prefix, self._tty = number, prefix, tty

    def __missing__(self, length: int) -> bytes:
        head = self._prefix
        if not self._tty:
            head = _header(self._number, len(head) + length + 1) + head
        self[length] = head
        return head


def _run_end(rows: list[bytes], index: int, tail: bytes) -> int:
    """Where the rows from `index` on cease to end in `tail`, in a few looks: those between are
    taken on trust."""
    step = 1
    while index + step < len(rows) and rows[index + step].endswith(tail):
        index += step
        step *= 2
    while step > 1:
        step //= 2
        if index + step < len(rows) and rows[index + step].endswith(tail):
            index += step
    return index + 1


def _texts(rows: list[bytes], tail: bytes) -> list[bytes] | None:
    """What each row says, if all of them do end in `tail` and none has to be decoded."""
    begin, end = len(_BEGIN), -len(tail)
    texts = [row[begin:end] for row in rows if row.startswith(_BEGIN) and row.endswith(tail)]
    return texts if len(texts) == len(rows) and b"\\" not in b"".join(texts) else None


def _decoded(line: bytes) -> tuple[int, bytes, bytes] | None:
    """Stream, text, time; None for an empty or damaged line: it is left out."""
    try:
        fields = json.loads(line)
        text, stream, moment = fields["log"], fields["stream"], fields["time"]
        return _STREAMS[stream], _bytes(text), _full(moment)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _bytes(text: str) -> bytes:
    """What isn't UTF-8 was stored as lone surrogates: any bytes in, the same bytes out."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


# --- reading ------------------------------------------------------------------------------------


async def read_log(
    path: str,
    query: LogQuery,
    *,
    tty: bool,
    max_file: int,
    is_live: Callable[[], bool],
    watch: "LogWatch",
    details: bytes = b"",
) -> AsyncIterator[bytes]:
    """Frames for the wire. With `query.follow` goes on for as long as `is_live()`."""
    renderer = Renderer(query, tty, details)
    with contextlib.ExitStack() as stack:
        # Watched before the first read, so that no line comes in between.
        changes = stack.enter_context(watch.folder(os.path.dirname(path))) if query.follow else None
        files = open_files(path, max_file)
        stack.callback(_close, files)
        await _skip_to_tail(files, query.tail)
        while not renderer.ended:
            # Looked at before the read: what was written until then is in the files.
            live = changes is not None and is_live()
            if changes is not None:
                changes.clear()
            async for piece in _read_on(path, files, renderer, max_file):
                yield piece
            if not live or changes is None:
                return
            if not await _wait(changes, query.until):
                return


def _close(files: list[LogFile]) -> None:
    for file in files:
        file.close()


async def _skip_to_tail(files: list[LogFile], tail: int | None) -> None:
    """Go to where the last lines begin, leaving out files that are older than they."""
    if tail is None:
        return
    for index in range(len(files) - 1, -1, -1):
        await _unpack(files[index])
        tail = files[index].skip_to_tail(tail)
        if tail == 0:
            _close(files[:index])
            del files[:index]
            return


async def _unpack(file: LogFile) -> None:
    if file.is_packed:
        await asyncio.to_thread(file.unpack)


async def _read_on(
    path: str, files: list[LogFile], renderer: Renderer, max_file: int
) -> AsyncIterator[bytes]:
    """What is there now; afterwards `files` holds the newest file only."""
    while not renderer.ended:
        if not files and (first := following_file(path, max_file, None)) is not None:
            files.append(first)
        if not files:
            return
        await _unpack(files[0])
        if lines := files[0].read_lines():
            if piece := renderer.render(lines):
                yield piece
            # Others get their turn between two chunks.
            await asyncio.sleep(0)
            continue
        if len(files) == 1:
            newer = following_file(path, max_file, files[0])
            if newer is None:
                return
            files.append(newer)
            # It was written to until the rotation, perhaps after the read above.
            continue_with = files[0].read_lines()
            if continue_with and (piece := renderer.render(continue_with)):
                yield piece
        files.pop(0).close()


async def _wait(changes: asyncio.Event, until: int) -> bool:
    """False once `until` (nanoseconds since the epoch, 0 = never) has passed."""
    remaining = (until - time.time_ns()) / 1e9 if until else None
    try:
        async with asyncio.timeout(remaining):
            await changes.wait()
    except TimeoutError:
        return False
    return True


class LogWatch:
    """One inotify instance for all followers: users have only 128 of them."""

    MASK = inotify.IN_MODIFY | inotify.IN_MOVED_TO | inotify.IN_CREATE | inotify.IN_ONLYDIR

    def __init__(self) -> None:
        self._descriptor = -1
        self._listeners: dict[int, set[asyncio.Event]] = {}
        self._watches: dict[str, int] = {}

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[asyncio.Event]:
        """An event that is set when a file in `path` grows or is rotated, or by `wake`."""
        if self._descriptor < 0:
            self._descriptor = inotify.inotify_init()
            asyncio.get_running_loop().add_reader(self._descriptor, self._read)
        watch = inotify.add_watch(self._descriptor, path, self.MASK)
        self._watches[path] = watch
        event = asyncio.Event()
        listeners = self._listeners.setdefault(watch, set())
        listeners.add(event)
        try:
            yield event
        finally:
            listeners.discard(event)
            if not listeners and self._listeners.pop(watch, None) is not None:
                del self._watches[path]
                # The kernel took it away already if the folder is gone.
                with contextlib.suppress(OSError):
                    inotify.remove_watch(self._descriptor, watch)

    def wake(self, path: str) -> None:
        """Followers in this folder look again: the container's state changed."""
        for event in self._listeners.get(self._watches.get(path, -1), ()):
            event.set()

    def _read(self) -> None:
        for watch, _ in inotify.read_events(self._descriptor):
            if watch == inotify.OVERFLOW:
                for listeners in self._listeners.values():
                    for event in listeners:
                        event.set()
            for event in self._listeners.get(watch, ()):
                event.set()

    def close(self) -> None:
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
