"""Hijacked connections, byte by byte: attach and exec start."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.engine.api.conftest import Make
from tests.engine.api.dialogue import Dialogue, frames, open_streams, output
from tests.host import Daemon

pytestmark = pytest.mark.kernel
Talk = Callable[[], Dialogue]
ATTACH = "stream=1&stdin=1&stdout=1&stderr=1"
CAT = {"OpenStdin": True, "StdinOnce": True, "AttachStdin": True}


def attach(
    talk: Talk, name: str, query: str = ATTACH, *, then: bytes = b"", upgrade: bool = True
) -> Dialogue:
    client = talk()
    client.request("POST", f"/containers/{name}/attach?{query}", upgrade=upgrade, then=then)
    head = client.head()
    assert head.status == (101 if upgrade else 200)
    assert "content-length" not in head.headers
    assert "transfer-encoding" not in head.headers
    return client


def start(engine: Daemon, name: str) -> None:
    assert engine.call("POST", f"/containers/{name}/start") == (204, None)


def settles(holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_attach_with_upgrade_answers_101_and_what_kind_of_stream(talk: Talk, make: Make) -> None:
    for version, tty, kind in (
        ("v1.51", False, "multiplexed"),
        ("v1.51", True, "raw"),
        ("v1.41", False, "raw"),
    ):
        name = make("true", Tty=tty)
        client = talk()
        client.request("POST", f"/{version}/containers/{name}/attach?stream=1", upgrade=True)
        head = client.head()
        assert (head.status, head.reason) == (101, "UPGRADED")
        assert head.headers["connection"] == "Upgrade"
        assert head.headers["upgrade"] == "tcp"
        assert head.headers["content-type"] == f"application/vnd.docker.{kind}-stream"


def test_attach_without_upgrade_answers_200_raw(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("echo", "hi")
    client = attach(talk, name, upgrade=False)
    start(engine, name)
    assert frames(client.rest()) == [(1, b"hi\n")]


def test_attach_before_start_loses_no_output(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("sh", "-c", "echo out; echo err >&2")
    client = attach(talk, name)
    start(engine, name)
    received = client.rest()
    assert (output(received, 1), output(received, 2)) == (b"out\n", b"err\n")


def test_several_attached_clients_get_all_output(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("seq", "2000")
    clients = [attach(talk, name) for _ in range(3)]
    start(engine, name)
    expected = "".join(f"{number}\n" for number in range(1, 2001)).encode()
    assert [output(client.rest()) for client in clients] == [expected] * 3


@pytest.mark.parametrize("upgrade", [True, False])
def test_input_in_the_packet_of_the_head_is_not_lost(
    talk: Talk, engine: Daemon, make: Make, upgrade: bool
) -> None:
    name = make("cat", **CAT)
    client = attach(talk, name, then=b"GET early HTTP/1.1\r\n\r\n", upgrade=upgrade)
    start(engine, name)
    client.send(b"late\n")
    client.half_close()
    assert output(client.rest()) == b"GET early HTTP/1.1\r\n\r\nlate\n"


def test_the_head_may_come_byte_by_byte(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("cat", **CAT)
    client = talk()
    request = f"POST /v1.51/containers/{name}/attach?{ATTACH} HTTP/1.1\r\nHost: x\r\n"
    for byte in request.encode() + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\nx":
        client.send(bytes([byte]))
    assert client.head().status == 101
    start(engine, name)
    client.half_close()
    assert output(client.rest()) == b"x"


def test_after_a_half_close_the_output_still_comes(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("sh", "-c", "cat > /dev/null; echo one; sleep 0.2; echo two", **CAT)
    client = attach(talk, name)
    start(engine, name)
    client.send(b"x")
    client.half_close()
    assert output(client.rest()) == b"one\ntwo\n"


@pytest.mark.parametrize("tty", [True, False])
def test_who_says_all_to_a_container_that_listens_on_is_done(
    talk: Talk, engine: Daemon, make: Make, tty: bool
) -> None:
    """As in Docker: its output ends with its input, and the container runs on."""
    name = make("cat", OpenStdin=True, Tty=tty)
    first, second = attach(talk, name), attach(talk, name)
    start(engine, name)
    first.send(b"a\n")
    first.half_close()
    first.rest()
    second.read_until(b"a")
    second.send(b"b\n")
    second.read_until(b"b")


def test_the_first_to_say_all_ends_the_input_that_is_asked_for_once(
    talk: Talk, engine: Daemon, make: Make
) -> None:
    name = make("cat", **CAT)
    first, second = attach(talk, name), attach(talk, name)
    start(engine, name)
    second.send(b"b\n")
    first.read_until(b"b\n")
    first.half_close()
    assert output(second.rest()) == b"b\n"


def test_who_wants_no_stream_is_not_waited_for(talk: Talk, make: Make) -> None:
    assert attach(talk, make("true"), "stream=1").rest() == b""


def test_a_half_close_without_input_is_no_farewell(talk: Talk, engine: Daemon, make: Make) -> None:
    """`docker run` without -i stops sending at once."""
    name = make("sh", "-c", "sleep 0.2; echo still here")
    client = attach(talk, name, "stream=1&stdout=1&stderr=1")
    client.half_close()
    start(engine, name)
    assert output(client.rest()) == b"still here\n"


def test_a_slow_reader_gets_everything(talk: Talk, engine: Daemon, make: Make) -> None:
    size = 6 << 20
    name = make("head", "-c", str(size), "/dev/zero")
    client = attach(talk, name, "stream=1&stdout=1")
    start(engine, name)
    time.sleep(0.3)  # the pipes are full by now; nothing may be dropped for it
    assert len(output(client.rest())) == size


def test_much_input_comes_back(talk: Talk, engine: Daemon, make: Make) -> None:
    """Back-pressure both ways: the client writes all before it reads anything."""
    import threading

    size = 4 << 20
    name = make("cat", **CAT)
    client = attach(talk, name)
    start(engine, name)

    def write() -> None:
        client.send(b"x" * size)
        client.half_close()

    writer = threading.Thread(target=write)
    writer.start()
    received = output(client.rest())
    writer.join()
    assert received == b"x" * size


@pytest.mark.parametrize("farewell", ["close", "half-close and close"])
def test_a_vanished_client_leaves_nothing(
    talk: Talk, engine: Daemon, make: Make, farewell: str
) -> None:
    """isolation 59: an idle container never writes, so only the hang-up tells."""
    name = make("sleep", "100")
    start(engine, name)
    engine.call("GET", "/_ping")
    before = open_streams(engine)
    clients = [attach(talk, name, "stream=1&stdout=1") for _ in range(10)]
    clients += [attach(talk, name) for _ in range(10)]
    for client in clients:
        if farewell != "close":
            client.half_close()
        client.close()
    assert settles(lambda: open_streams(engine) <= before), (before, open_streams(engine))


def test_an_attach_that_fails_is_ordinary_http(talk: Talk) -> None:
    client = talk()
    next_request = b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"
    client.request("POST", "/containers/nosuch/attach?stream=1", upgrade=True, then=next_request)
    head, body = client.answer()
    assert head.status == 404
    assert b"No such container: nosuch" in body
    head, body = client.answer()
    assert (head.status, body) == (200, b"OK")


def test_attach_replays_the_log_if_asked(talk: Talk, engine: Daemon, make: Make) -> None:
    name = make("sh", "-c", "echo first; exec cat", **CAT)
    client = attach(talk, name)
    start(engine, name)
    assert frames(client.read(8 + 6)) == [(1, b"first\n")]
    second = attach(talk, name, "stream=1&stdout=1&logs=1")
    assert frames(second.read(8 + 6)) == [(1, b"first\n")]
    client.half_close()
    assert second.rest() == b""


def test_a_terminal_gives_raw_bytes_and_detaches_by_its_keys(
    talk: Talk, engine: Daemon, make: Make
) -> None:
    name = make("sh", "-c", "stty -echo; echo ready; read line; echo got $line; sleep 100",
                Tty=True, OpenStdin=True)  # fmt: skip
    client = attach(talk, name)
    start(engine, name)
    client.read_until(b"ready\r\n")
    client.send(b"hello\n")
    assert client.read_until(b"\n") == b"got hello\r\n"
    client.send(b"\x10\x11")  # ctrl-p,ctrl-q
    assert b"sleep" not in client.rest()
    _, state = engine.call("GET", f"/containers/{name}/json")
    assert isinstance(state, dict)
    assert state["State"]["Running"]


def exec_create(engine: Daemon, name: str, *command: str, **config: object) -> str:
    body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **config}
    status, answer = engine.call("POST", f"/containers/{name}/exec", body)
    assert status == 201, answer
    assert isinstance(answer, dict)
    return str(answer["Id"])


def exec_start(talk: Talk, exec_id: str, *, then: bytes = b"", upgrade: bool = True) -> Dialogue:
    client = talk()
    client.request("POST", f"/exec/{exec_id}/start", {"Detach": False}, upgrade=upgrade, then=then)
    assert client.head().status == (101 if upgrade else 200)
    return client


def exit_code(engine: Daemon, exec_id: str) -> object:
    status, answer = engine.call("GET", f"/exec/{exec_id}/json")
    assert status == 200
    assert isinstance(answer, dict)
    return answer["ExitCode"]


@pytest.fixture
def running(engine: Daemon, make: Make) -> str:
    name = make("sleep", "100")
    start(engine, name)
    return name


@pytest.mark.parametrize("upgrade", [True, False])
def test_exec_carries_input_and_output(
    talk: Talk, engine: Daemon, running: str, upgrade: bool
) -> None:
    exec_id = exec_create(engine, running, "cat", AttachStdin=True)
    client = exec_start(talk, exec_id, then=b"early ", upgrade=upgrade)
    client.send(b"late")
    client.half_close()
    assert output(client.rest()) == b"early late"


def test_the_exit_code_is_there_before_the_end_of_the_stream(
    talk: Talk, engine: Daemon, running: str
) -> None:
    for code in range(5):
        exec_id = exec_create(engine, running, "sh", "-c", f"exit {code}")
        assert exit_code(engine, exec_id) is None
        assert exec_start(talk, exec_id).rest() == b""
        assert exit_code(engine, exec_id) == code


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, b'exec: "nosuch": executable file not found in $PATH'),
        ("/etc/passwd", 126, b"permission denied"),
    ],
)
def test_an_exec_that_cannot_start_says_so_in_the_stream(
    talk: Talk, engine: Daemon, running: str, command: str, code: int, text: bytes
) -> None:
    exec_id = exec_create(engine, running, command)
    received = exec_start(talk, exec_id).rest()
    assert text in received
    assert exit_code(engine, exec_id) == code


def test_a_connection_can_be_taken_after_a_body_that_came_in_parts(
    talk: Talk, engine: Daemon, running: str
) -> None:
    exec_id = exec_create(engine, running, "echo", "hi")
    client = talk()
    fields = "Host: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(f"POST /containers/nosuch/exec HTTP/1.1\r\n{fields}".encode())
    engine.call("GET", "/_ping")  # meanwhile the head is parsed
    client.send(b'10\r\n{"Cmd":["true"]}\r\n0\r\n\r\n')
    assert client.answer()[0].status == 404
    client.request("POST", f"/exec/{exec_id}/start", {"Detach": False}, upgrade=True)
    assert client.head().status == 101
    assert output(client.rest()) == b"hi\n"


def test_the_output_of_a_terminal_is_framed_for_who_does_not_say_he_wants_it_raw(
    talk: Talk, engine: Daemon, running: str
) -> None:
    exec_id = exec_create(engine, running, "sh", "-c", "echo out; echo err >&2", Tty=True)
    assert output(exec_start(talk, exec_id).rest()) == b"out\r\nerr\r\n"


def test_a_detached_exec_answers_at_once_or_says_what_is_wrong(
    engine: Daemon, running: str
) -> None:
    good = exec_create(engine, running, "true")
    assert engine.call("POST", f"/exec/{good}/start", {"Detach": True}) == (200, None)
    bad = exec_create(engine, running, "nosuch")
    status, answer = engine.call("POST", f"/exec/{bad}/start", {"Detach": True})
    assert status == 400
    assert "executable file not found in $PATH" in str(answer)


def test_an_exec_of_which_nothing_is_wanted_is_not_waited_for(engine: Daemon, running: str) -> None:
    _, made = engine.call("POST", f"/containers/{running}/exec", {"Cmd": ["sleep", "100"]})
    assert isinstance(made, dict)
    assert engine.call("POST", f"/exec/{made['Id']}/start", {}) == (200, None)
    _, shown = engine.call("GET", f"/exec/{made['Id']}/json")
    assert isinstance(shown, dict)
    assert shown["Running"] is True


def test_an_exec_needs_a_running_container(engine: Daemon, make: Make) -> None:
    name = make("true")
    status, answer = engine.call("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
    assert status == 409
    assert "is not running" in str(answer)
