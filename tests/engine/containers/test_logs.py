import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.containers.log_files import CHUNK, LogFile
from engine.containers.logs import LogWatch, Renderer, read_log, stamp
from engine.containers.model import LogQuery
from engine.runtime.log_writer import LogWriter

SECOND = 1_000_000_000


@dataclass
class Log:
    path: Path
    watch: LogWatch
    max_file: int = 3
    live: bool = False
    written: int = field(default=0)

    def write(self, text: bytes, stream: int = 1, at: int = 0) -> None:
        """As the shim does, with a clock of its own: a second a line."""
        self.written += 1
        entry = {
            "log": text.decode("utf-8", "surrogateescape"),
            "stream": {1: "stdout", 2: "stderr"}[stream],
            "time": stamp((at or self.written) * SECOND),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def rotate(self) -> None:
        for index in range(self.max_file - 1, 0, -1):
            older = self.path if index == 1 else Path(f"{self.path}.{index - 1}")
            if older.exists():
                older.rename(f"{self.path}.{index}")
        self.path.touch()

    def read(self, *, tty: bool = True, **query: object) -> AsyncIterator[bytes]:
        return read_log(
            str(self.path), LogQuery(**query), tty=tty, max_file=self.max_file,  # type: ignore[arg-type]
            is_live=lambda: self.live, watch=self.watch,
        )  # fmt: skip

    async def text(self, *, tty: bool = True, **query: object) -> bytes:
        return b"".join([piece async for piece in self.read(tty=tty, **query)])


@pytest.fixture
async def log(tmp_path: Path) -> AsyncIterator[Log]:
    watch = LogWatch()
    yield Log(tmp_path / "json.log", watch)
    watch.close()


async def test_frames_carry_their_stream(log: Log) -> None:
    log.write(b"out\n")
    log.write(b"err\n", stream=2)
    assert await log.text(tty=False) == b"\1\0\0\0\0\0\0\4out\n\2\0\0\0\0\0\0\4err\n"
    assert await log.text(tty=False, stdout=False) == b"\2\0\0\0\0\0\0\4err\n"
    assert await log.text(stderr=False) == b"out\n"


async def test_any_bytes_come_back(log: Log) -> None:
    every = bytes(range(256)).replace(b"\n", b"") + "ü\N{SNOWMAN}".encode() + b"\n"
    writer = LogWriter(str(log.path), 0, 1)
    writer.write(1, every)
    assert await log.text() == every
    assert await log.text(timestamps=True) != every


@pytest.mark.parametrize("ever", [-62135596801 * SECOND, -1, 1])
async def test_the_beginning_of_all_times_is_before_every_line(log: Log, ever: int) -> None:
    log.write(b"1\n", at=1)
    assert await log.text(since=ever, until=253402300801 * SECOND) == b"1\n"
    assert await log.text(until=ever) == b""


async def test_since_until_and_timestamps(log: Log) -> None:
    for number in range(1, 6):
        log.write(b"%d\n" % number)
    assert await log.text(since=2 * SECOND, until=4 * SECOND) == b"2\n3\n4\n"
    assert await log.text(since=2 * SECOND + 1, until=4 * SECOND - 1) == b"3\n"
    assert await log.text(tail=2, timestamps=True) == (
        b"1970-01-01T00:00:04.000000000Z 4\n1970-01-01T00:00:05.000000000Z 5\n"
    )


async def test_times_of_docker_s_own_files_are_understood(log: Log) -> None:
    log.path.write_text('{"log":"x\\n","stream":"stdout","time":"1970-01-01T00:00:04.5Z"}\n')
    assert await log.text(since=4 * SECOND + 1, until=5 * SECOND) == b"x\n"


async def test_a_line_in_parts_is_one_line(log: Log) -> None:
    for text in (b"a" * 10, b"b" * 10, b"c\n", b"next\n"):
        log.write(text)
    assert await log.text(timestamps=True) == (
        b"1970-01-01T00:00:01.000000000Z " + b"a" * 10 + b"b" * 10 + b"c\n"
        b"1970-01-01T00:00:04.000000000Z next\n"
    )


async def test_rotated_files_are_read_oldest_first(log: Log) -> None:
    for number in range(6):
        log.write(b"%d\n" % number)
        if number % 2:
            log.rotate()
    assert await log.text() == b"2\n3\n4\n5\n"
    assert await log.text(tail=3) == b"3\n4\n5\n"
    assert await log.text(tail=0) == b""
    assert await log.text(tail=100) == b"2\n3\n4\n5\n"


async def test_damaged_lines_are_left_out(log: Log) -> None:
    log.write(b"before\n")
    with log.path.open("ab") as file:
        file.write(b'{"log":"torn\n\0\0\0\n[]\n')
    log.write(b"after\n")
    with log.path.open("ab") as file:
        file.write(b'{"log":"half')
    assert await log.text() == b"before\nafter\n"
    log.path.write_text('[]\n{"log":1,"stream":"stdout","time":"x"}\n')
    log.write(b"fine\n")
    assert await log.text() == b"fine\n"
    assert await log.text(since=1) == b"fine\n"


async def test_following_gets_each_line_through_rotations(log: Log) -> None:
    log.live = True
    log.write(b"0\n")
    gathered = b""
    number = 0
    async for piece in log.read(follow=True):
        gathered += piece
        if not gathered.endswith(b"%d\n" % number):
            continue
        if number == 7:
            log.live = False
            log.watch.wake(str(log.path.parent))
            continue
        number += 1
        if number % 3 == 0:
            log.rotate()
        log.write(b"%d\n" % number)
    assert gathered == b"".join(b"%d\n" % number for number in range(8))


async def test_following_survives_a_log_of_one_file_that_is_emptied(log: Log) -> None:
    log.live, log.max_file = True, 1
    log.write(b"a long first line\n")
    reading = log.read(follow=True)
    assert await anext(reading) == b"a long first line\n"
    log.path.write_bytes(b"")
    log.write(b"b\n")
    assert await anext(reading) == b"b\n"
    log.live = False
    log.watch.wake(str(log.path.parent))
    assert [piece async for piece in reading] == []


async def test_following_what_is_down_ends_at_once(log: Log) -> None:
    log.write(b"x\n")
    assert await log.text(follow=True) == b"x\n"


async def test_following_waits_for_the_first_file(log: Log) -> None:
    log.live = True
    reading = log.read(follow=True)
    first = asyncio.ensure_future(anext(reading))
    await asyncio.sleep(0)
    log.write(b"x\n")
    assert await first == b"x\n"
    await reading.aclose()  # type: ignore[attr-defined]


async def test_following_ends_at_until(log: Log) -> None:
    log.live = True
    log.write(b"x\n")
    assert await log.text(follow=True, until=2 * SECOND) == b"x\n"


async def test_a_follower_that_leaves_takes_its_watch_along(log: Log) -> None:
    log.live = True
    log.write(b"x\n")
    reading = log.read(follow=True)
    await anext(reading)
    await reading.aclose()  # type: ignore[attr-defined]
    assert log.watch._listeners == {}


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 3 * CHUNK // 2), min_size=0, max_size=5),
    tail=st.integers(0, 7),
)
def test_tail_is_the_last_lines(
    sizes: list[int], tail: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    lines = [b"x" * size + b"\n" for size in sizes]
    path.write_bytes(b"".join(lines))
    file = LogFile(str(path))
    try:
        missing = file.skip_to_tail(tail)
        read = b"".join(iter(file.read_lines, b""))
    finally:
        file.close()
    assert read == b"".join(lines[max(0, len(lines) - tail) :])
    assert missing == max(0, tail - len(lines))


@settings(deadline=None, max_examples=40)
@given(
    chunks=st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40_000)), max_size=6),
    max_size=st.sampled_from([0, 100_000]),
)
def test_what_the_shim_writes_is_what_is_read(
    chunks: list[tuple[int, bytes]], max_size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("whole") / "log"
    writer = LogWriter(str(path), max_size, 100)
    for stream, chunk in chunks:
        writer.write(stream, chunk)
    writer.finish()

    async def read(query: LogQuery) -> bytes:
        watch = LogWatch()
        found = [
            piece
            async for piece in read_log(
                str(path), query, tty=True, max_file=100, is_live=lambda: False, watch=watch
            )
        ]
        watch.close()
        return b"".join(found)

    for number in (1, 2):
        query = LogQuery(stdout=number == 1, stderr=number == 2)
        assert asyncio.run(read(query)) == b"".join(
            chunk for stream, chunk in chunks if stream == number
        )


_LINES = st.tuples(
    st.sampled_from([b"", b"plain", b"another", b'a "quote"', b"back\\slash", b"\xff", b"part"]),
    st.sampled_from([1, 1, 1, 2]),  # stream
    st.sampled_from([1, 1, 1, 1, 1, 2]),  # seconds until the next
    st.booleans(),  # whether the line is whole
)


@settings(deadline=None)
@given(
    lines=st.lists(
        st.one_of(_LINES.map(lambda line: [line]), st.integers(15, 70).map(lambda n: [_SAME] * n)),
        max_size=12,
    ),
    stdout=st.booleans(),
    stderr=st.booleans(),
    timestamps=st.booleans(),
    since=st.integers(0, 8),
    until=st.integers(0, 8),
    tty=st.booleans(),
)
def test_lines_of_one_time_are_rendered_as_each_by_itself(
    lines: list[list[tuple[bytes, int, int, bool]]],
    stdout: bool,
    stderr: bool,
    timestamps: bool,
    since: int,
    until: int,
    tty: bool,
) -> None:
    query = LogQuery(
        stdout=stdout,
        stderr=stderr,
        timestamps=timestamps,
        since=since * SECOND,
        until=until * SECOND,
    )
    rows: list[bytes] = []
    now = 0
    for text, stream, later, whole in (line for group in lines for line in group):
        now += later - 1
        log = json.dumps((text + b"\n" * whole).decode("utf-8", "surrogateescape"))
        name = {1: "stdout", 2: "stderr"}[stream]
        rows.append(f'{{"log":{log},"stream":"{name}","time":"{stamp(now * SECOND)}"}}\n'.encode())
    together, apart = Renderer(query, tty), Renderer(query, tty)
    expected = b"".join([apart.render(row) for row in rows if not apart.ended])
    assert together.render(b"".join(rows)) == expected
    assert together.ended == apart.ended


_SAME = (b"again and again", 1, 1, True)
