from __future__ import annotations

import json
import resource
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.log_writer import PIECE, Clock, LineBuffer, LogWriter, escape


def records(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def content(path: Path) -> bytes:
    text = "".join(record["log"] for record in records(path))
    return text.encode("utf-8", "surrogateescape")


chunks = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.text(max_size=50).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.sampled_from([b"\n", b"\r\n", b'"', b"\\", b"x" * (PIECE - 1), b"y" * 40000]),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(written=chunks)
def test_any_bytes_in_the_same_bytes_out(written: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "log")
        writer = LogWriter(str(path), 0, 1)
        for chunk in written:
            writer.write(1, chunk)
        writer.finish()
        writer.close()
        assert content(path) == b"".join(written)
        for record in records(path):
            assert len(record["log"].encode("utf-8", "surrogateescape")) <= PIECE + 1
            assert "\n" not in record["log"][:-1]


@given(chunk=st.binary())
def test_escaped_text_is_json(chunk: bytes) -> None:
    text = json.loads(b'"' + escape(chunk).replace(b"\n", b"\\n") + b'"')
    assert text.encode("utf-8", "surrogateescape") == chunk


def test_long_line_is_stored_in_pieces_of_16_kib(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), 0, 1)
    writer.write(1, b"a\n" + b"b" * (2 * PIECE + 5))
    writer.write(1, b"\nc\n")
    logs = [record["log"] for record in records(tmp_path / "log")]
    assert [len(text) for text in logs] == [2, PIECE, PIECE, 6, 2]
    assert logs[3] == "bbbbb\n"
    writer.close()


def test_line_is_kept_until_it_ends() -> None:
    buffer = LineBuffer()
    assert buffer.feed(b"one\ntw") == [(b"one\n", True)]
    assert buffer.feed(b"o\n") == [(b"two\n", True)]
    assert buffer.feed(b"three") == []
    assert buffer.finish() == b"three"


def test_streams_do_not_mix_within_a_line(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), 0, 1)
    writer.write(1, b"out")
    writer.write(2, b"err\n")
    writer.write(1, b"put\n")
    assert [(record["stream"], record["log"]) for record in records(tmp_path / "log")] == [
        ("stderr", "err\n"),
        ("stdout", "output\n"),
    ]
    writer.close()


def test_files_never_exceed_the_limit(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), 1000, 3)
    for number in range(100):
        writer.write(1, b"line %d\n" % number * 3)
    writer.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = content(tmp_path / "log.2") + content(tmp_path / "log.1") + content(tmp_path / "log")
    everything = b"".join(b"line %d\n" % number * 3 for number in range(100))
    assert everything.endswith(kept)
    assert len(kept) > 200


def test_one_file_is_emptied_when_it_is_full(tmp_path: Path) -> None:
    writer = LogWriter(str(tmp_path / "log"), 300, 1)
    for number in range(20):
        writer.write(1, b"%d\n" % number)
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert content(tmp_path / "log").endswith(b"19\n")


def test_torn_record_is_cut_off_before_writing_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b'{"log":"whole\\n","stream":"stdout","time":"t"}\n{"log":"to')
    writer = LogWriter(str(path), 0, 1)
    writer.write(1, b"next\n")
    writer.close()
    assert content(path) == b"whole\nnext\n"


def test_full_disk_costs_records_but_no_torn_ones(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LogWriter(str(path), 0, 1)
    writer.write(1, b"before\n")
    # A limit on the size of files answers as a full disk does: a short write, then an error.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, limits[1]))
    try:
        writer.write(1, b"lost\nlost too\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert writer.lost == 2
    writer.write(1, b"after\n")
    writer.close()
    assert content(path) == b"before\nafter\n"


def test_stamp_has_nine_digits() -> None:
    clock = Clock()
    assert clock.stamp(1_000_000_007) == b"1970-01-01T00:00:01.000000007Z"
    assert clock.stamp(1_000_000_008) == b"1970-01-01T00:00:01.000000008Z"
