"""Answers that flow: wait, logs, events, stats, archives."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest

from tests.engine.api.conftest import Make
from tests.engine.api.dialogue import Dialogue, frames, open_streams, output
from tests.engine.api.test_upgrade import settles, start
from tests.host import Daemon

pytestmark = pytest.mark.kernel
Talk = Callable[[], Dialogue]


def test_the_head_of_a_wait_comes_before_the_start(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("sh", "-c", "exit 3")
    for condition in ("next-exit", "removed"):
        client = talk()
        client.request("POST", f"/containers/{name}/wait?condition={condition}")
        assert client.head().headers["transfer-encoding"] == "chunked"
        start(engine, name)
        if condition == "removed":
            engine.call("POST", f"/containers/{name}/wait")
            engine.call("DELETE", f"/containers/{name}")
        assert json.loads(client.chunks()) == {"StatusCode": 3}


def test_a_wait_for_one_that_is_down_answers_at_once(engine: Daemon, make: Make) -> None:
    assert engine.call("POST", f"/containers/{make('true')}/wait") == (200, {"StatusCode": 0})


def test_an_unknown_condition_is_refused(engine: Daemon, make: Make) -> None:
    status, answer = engine.call("POST", f"/containers/{make('true')}/wait?condition=bogus")
    assert (status, answer) == (400, {"message": 'invalid condition: "bogus"'})


@pytest.fixture
def finished(engine: Daemon, make: Make) -> str:
    name = make("sh", "-c", "echo one; echo two >&2; echo three; printf four")
    start(engine, name)
    engine.call("POST", f"/containers/{name}/wait")
    return name


def logs(talk: Talk, name: str, query: str) -> list[tuple[int, bytes]]:
    client = talk()
    client.request("GET", f"/containers/{name}/logs?{query}")
    head, body = client.answer()
    assert head.status == 200
    assert head.headers["content-type"] == "application/vnd.docker.multiplexed-stream"
    return frames(body)


def test_logs_are_one_frame_a_line_of_the_wanted_streams(talk: Talk, finished: str) -> None:
    everything = logs(talk, finished, "stdout=1&stderr=1")
    assert sorted(everything) == [(1, b"four"), (1, b"one\n"), (1, b"three\n"), (2, b"two\n")]
    assert logs(talk, finished, "stderr=true") == [(2, b"two\n")]
    assert logs(talk, finished, "stdout=1&tail=1") == [(1, b"four")]
    assert logs(talk, finished, "stdout=1&tail=0") == []
    assert logs(talk, finished, "stdout=1&follow=1&tail=all")[-1] == (1, b"four")


def test_timestamps_stand_before_each_line_and_bound_the_choice(talk: Talk, finished: str) -> None:
    stamped = logs(talk, finished, "stdout=1&timestamps=1")
    assert all(line[29:31] == b"Z " for _, line in stamped), stamped
    assert logs(talk, finished, f"stdout=1&since={time.time() + 5:.9f}") == []
    assert logs(talk, finished, "stdout=1&until=1") == []


def test_logs_need_a_stream(engine: Daemon, finished: str) -> None:
    assert engine.call("GET", f"/containers/{finished}/logs") == (
        400,
        {"message": "Bad parameters: you must choose at least one stream"},
    )


def test_followed_lines_come_when_they_are_written(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("cat", OpenStdin=True, StdinOnce=True)
    writer, reader = talk(), talk()
    writer.request("POST", f"/containers/{name}/attach?stream=1&stdin=1", upgrade=True)
    writer.head()
    start(engine, name)
    reader.request("GET", f"/containers/{name}/logs?stdout=1&follow=1")
    reader.head()
    for line in (b"one\n", b"two\n"):
        writer.send(line)
        assert output(reader.chunk()) == line
    writer.half_close()
    assert reader.chunks() == b""


def test_vanished_readers_leave_nothing(talk: Talk, engine: Daemon, make: Make) -> None:
    """isolation 59"""
    name = make("sleep", "100")
    start(engine, name)
    engine.call("GET", "/_ping")
    before = open_streams(engine)
    for leave in (Dialogue.close, Dialogue.half_close) * 3:
        for method, path in (
            ("GET", f"/containers/{name}/logs?stdout=1&follow=1"),
            ("GET", f"/containers/{name}/stats"),
            ("POST", f"/containers/{name}/wait"),
            ("GET", "/events"),
        ):
            client = talk()
            client.request(method, path)
            assert client.head().status == 200
            leave(client)
    assert settles(lambda: open_streams(engine) <= before), (before, open_streams(engine))
    status, info = engine.call("GET", "/info")
    assert status == 200
    assert isinstance(info, dict)
    assert info["NEventsListener"] == 0


def test_events_are_told_as_they_happen_and_filtered(
    talk: Talk, engine: Daemon, make: Make
) -> None:
    name = make("true")
    filters = quote(json.dumps({"container": [name], "event": {"start": True, "die": True}}))
    client = talk()
    client.request("GET", f"/events?filters={filters}")
    assert client.head().status == 200  # although there is nothing to say yet
    start(engine, name)
    first, second = json.loads(client.chunk()), json.loads(client.chunk())
    assert (first["status"], first["Type"], first["from"]) == ("start", "container", "rootfs:/")
    assert first["Actor"]["Attributes"]["name"] == name
    assert first["timeNano"] // 10**9 == first["time"]
    assert second["Action"] == "die"
    assert second["Actor"]["Attributes"]["exitCode"] == "0"


def test_past_events_end_with_until(talk: Talk, engine: Daemon) -> None:
    before = time.time()
    engine.call("POST", "/networks/create", {"Name": "told"})
    engine.call("DELETE", "/networks/told")
    client = talk()
    client.request("GET", f"/events?since={before:.9f}&until={time.time():.9f}")
    _, body = client.answer()
    told = [json.loads(line) for line in body.splitlines()]
    chosen = [(one["Type"], one["Action"]) for one in told if one["Type"] == "network"]
    assert chosen == [("network", "create"), ("network", "destroy")]
    assert "status" not in told[0]


def test_stats_come_once_or_flow(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("sleep", "100")
    start(engine, name)
    status, once = engine.call("GET", f"/containers/{name}/stats?stream=0&one-shot=1")
    assert status == 200
    assert isinstance(once, dict)
    assert once["preread"] == "0001-01-01T00:00:00Z"
    assert once["name"] == f"/{name}"
    assert once["pids_stats"]["current"] >= 1
    assert once["memory_stats"]["usage"] > 0
    assert once["memory_stats"]["limit"] > once["memory_stats"]["usage"]
    client = talk()
    client.request("GET", f"/containers/{name}/stats")
    client.head()
    client.chunk()
    second = json.loads(client.chunk())
    assert second["precpu_stats"]["system_cpu_usage"] < second["cpu_stats"]["system_cpu_usage"]


def test_files_go_in_and_out(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("cat", "/tmp/in/file")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo("in")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
        entry = tarfile.TarInfo("in/file")
        entry.size, entry.mode = 6, 0o640
        archive.addfile(entry, io.BytesIO(b"hello\n"))
    client = talk()
    raw = packed.getvalue()
    client.send(
        f"PUT /containers/{name}/archive?path=/tmp HTTP/1.1\r\nHost: x\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"".join(
            b"%x\r\n%s\r\n" % (len(raw[at : at + 700]), raw[at : at + 700])
            for at in range(0, len(raw), 700)
        )
        + b"0\r\n\r\n"
    )
    assert client.answer()[0].status == 200
    client.request("HEAD", f"/containers/{name}/archive?path=/tmp/in/file")
    head = client.head()
    found = json.loads(base64.b64decode(head.headers["x-docker-container-path-stat"]))
    assert (found["name"], found["size"], found["mode"]) == ("file", 6, 0o640)
    client.request("GET", f"/containers/{name}/archive?path=/tmp/in")
    head, body = client.answer()
    assert head.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        assert archive.getnames() == ["in", "in/file"]
    start(engine, name)
    engine.call("POST", f"/containers/{name}/wait")
    assert logs(talk, name, "stdout=1") == [(1, b"hello\n")]
    assert not os.path.exists("/tmp/in/file")


def test_a_path_that_is_not_there_is_said_as_it_was_given(engine: Daemon, make: Make) -> None:
    name = make("true")
    status, answer = engine.call("GET", f"/containers/{name}/archive?path=/nosuch")
    assert status == 404
    assert answer == {"message": f"Could not find the file /nosuch in container {name}"}
