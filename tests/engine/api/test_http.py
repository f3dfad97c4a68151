"""HTTP itself: negotiation, errors, what is malformed, who may come in."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import stat
from collections.abc import Callable

import pytest

from engine.errors import NO_SWARM_MANAGER
from tests.engine.api.conftest import TCP_PORT
from tests.engine.api.dialogue import Dialogue
from tests.host import Daemon, Host

pytestmark = pytest.mark.kernel
UNKNOWN_FILTER = "%7B%22nosuch%22%3A%5B%22x%22%5D%7D"
Talk = Callable[[], Dialogue]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ping_negotiates_the_version(talk: Talk, method: str) -> None:
    client = talk()
    client.send(f"{method} /_ping HTTP/1.1\r\nHost: engine\r\n\r\n".encode())
    head = client.head()
    assert head.status == 200
    expected = {
        "api-version": "1.51",
        "ostype": "linux",
        "docker-experimental": "false",
        "swarm": "inactive",
        "cache-control": "no-cache, no-store, must-revalidate",
        "pragma": "no-cache",
    }
    assert expected.items() <= head.headers.items()
    assert head.headers["content-type"].startswith("text/plain")
    assert head.headers["content-length"] == ("2" if method == "GET" else "0")
    if method == "GET":
        assert client.read(2) == b"OK"
    client.request("GET", "/v1.24/_ping")  # the connection is still good
    assert client.answer()[0].status == 200


def test_the_version_names_what_clients_ask_for(engine: Daemon) -> None:
    _, version = engine.call("GET", "/version")
    assert isinstance(version, dict)
    asked_for = (
        "ApiVersion MinAPIVersion Version Os Arch KernelVersion GitCommit GoVersion BuildTime "
        "Components Platform"
    )
    assert set(asked_for.split()) <= version.keys()


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        (
            "/v1.99/info",
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.51",
        ),
        ("/nosuch", 404, "page not found"),
        ("/v1.51/nosuch", 404, "page not found"),
        ("/", 404, "page not found"),
        ("/containers/x/y/z", 404, "page not found"),
        ("/containers/nosuch/json", 404, "No such container: nosuch"),
        ("/images/nosuch/json", 404, "No such image: nosuch:latest"),
        ("/networks/nosuch", 404, "network nosuch not found"),
        ("/volumes/nosuch", 404, "get nosuch: no such volume"),
        ("/exec/nosuch/json", 404, "No such exec instance: nosuch"),
        ("/containers/json?filters=x", 400, "invalid filter"),
        (f"/containers/json?filters={UNKNOWN_FILTER}", 400, "invalid filter 'nosuch'"),
        (f"/networks?filters={UNKNOWN_FILTER}", 400, "invalid filter 'nosuch'"),
        (f"/volumes?filters={UNKNOWN_FILTER}", 400, "invalid filter 'nosuch'"),
        (f"/images/json?filters={UNKNOWN_FILTER}", 400, "invalid filter 'nosuch'"),
        (f"/events?filters={UNKNOWN_FILTER}", 400, "invalid filter 'nosuch'"),
        ("/plugins/x/y:1/json", 404, 'plugin "x/y:1" not found'),
        (
            "/containers/x/checkpoints",
            501,
            "cannot make checkpoints: this engine doesn't freeze processes to disk",
        ),
        (
            "/tasks/x/logs?stdout=1",
            503,
            NO_SWARM_MANAGER,
        ),
        (
            "/services",
            503,
            NO_SWARM_MANAGER,
        ),
        ("/containers/%00/json", 400, "invalid path: it holds a NUL"),
        ("/containers/%ff/json", 400, "invalid path: it is no UTF-8"),
    ],
)  # fmt: skip
def test_a_refusal_is_json_with_the_common_headers(
    talk: Talk, path: str, status: int, message: str
) -> None:
    client = talk()
    client.request("GET", path)
    head, body = client.answer()
    assert (head.status, json.loads(body)) == (status, {"message": message})
    assert body.endswith(b"\n")
    assert head.headers["content-type"] == "application/json"
    assert head.headers["api-version"] == "1.51"
    assert head.headers["server"].endswith("(linux)")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/containers/json"), ("POST", "/version"), ("DELETE", "/_ping"), ("POST", "/grpc"),
     ("POST", "/session")],
)  # fmt: skip
def test_a_wrong_method_is_a_page_that_is_not_there(talk: Talk, method: str, path: str) -> None:
    client = talk()
    client.request(method, path)
    head, body = client.answer()
    assert (head.status, json.loads(body)) == (404, {"message": "page not found"})


REFUSED: tuple[tuple[str, str, object, int, str], ...] = (
    ("POST", "/containers/create",
     {"Image": "rootfs:/", "NetworkingConfig": {"EndpointsConfig": {"shop": None}}}, 400,
     "invalid config for network shop: EndpointsConfig is nil"),
    ("DELETE", "/containers/x/checkpoints/y", None, 501,
     "cannot make checkpoints: this engine doesn't freeze processes to disk"),
    ("POST", "/containers/x/resize", None, 400, 'invalid resize height "": invalid syntax'),
    ("POST", "/containers/x/resize?h=1&w=-1", None, 400,
     'invalid resize width "-1": value out of range'),
    ("POST", "/containers/create?platform=foo", {"Image": "rootfs:/"}, 400,
     '"foo": unknown operating system or architecture: invalid argument'),
    ("POST", "/containers/create",
     {"Image": "rootfs:/", "HostConfig": {
         "Mounts": [{"Type": "tmpfs", "Target": "/x", "BindOptions": {}}]}},
     400, 'BindOptions must not be specified on mount type "tmpfs"'),
    *((method, path, body, 400, 'invalid name or ID supplied: ""') for method, path, body in (
        ("POST", "/networks/none/connect", {}), ("POST", "/networks/none/disconnect", {}),
        ("POST", "/commit", {}))),
    ("POST", "/networks/none/disconnect", {"Container": "nosuch", "Force": True}, 404,
     "endpoint nosuch not found"),
    ("POST", "/networks/create", {"Name": "default"}, 403,
     "operation is not permitted on predefined default network"),
    ("POST", "/networks/create", {"Name": "x", "IPAM": {"Config": [{}]}}, 400,
     "invalid subnet : invalid CIDR block notation"),
    ("GET", "/networks/none?verbose=bad", None, 400, "invalid value for verbose: bad"),
    ("GET", "/networks/none?scope=swarm", None, 404, "network none not found"),
    ("GET", "/volumes?filters=%7B%22dangling%22:%5B%221%22,%220%22%5D%7D", None, 400,
     "invalid filter 'dangling=[1 0]'"),
    ("GET", f"/plugins?filters={UNKNOWN_FILTER}", None, 400, "invalid filter 'nosuch'"),
    ("POST", "/containers/nosuch/rename", None, 400, "Neither old nor new names may be empty"),
    ("POST", "/containers/x/exec", {"Cmd": "true"}, 400,
     'invalid value of Cmd: it has to be a list of strings, not "true"'),
    ("POST", "/containers/create", {"Image": "x", "HostConfig": {"IOMaximumIOps": 1}}, 400,
     "invalid option: QoS maximum IOPs configuration is not supported on linux"),
    ("POST", "/containers/create", {"Image": "x", "HostConfig": {"Annotations": {"": "x"}}}, 400,
     "invalid Annotations: the empty string is not permitted as an annotation key"),
    ("POST", "/services/create", [], 400, "invalid JSON: the body has to be an object"),
    ("POST", "/volumes/create", {"ClusterVolumeSpec": {}}, 503, NO_SWARM_MANAGER),
    ("POST", "/build/prune?min-free-space=x", None, 400,
     "invalid value 'x' of 'min-free-space': it has to be a number"),
)  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), REFUSED)
def test_wrong_input_is_refused_in_docker_s_words(
    engine: Daemon, method: str, path: str, body: object, status: int, message: str
) -> None:
    assert engine.call(method, path, body) == (status, {"message": message})


def test_options_let_no_other_site_in(talk: Talk) -> None:
    client = talk()
    client.request("OPTIONS", "/containers/json")
    head, body = client.answer()
    assert (head.status, body) == (200, b"")
    assert not any(name.startswith("access-control") for name in head.headers)


def test_clients_that_are_too_old_get_plain_text(talk: Talk) -> None:
    client = talk()
    client.request("GET", "/v1.20/info")
    head, body = client.answer()
    assert (head.status, head.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert body == (
        b"client version 1.20 is too old. Minimum supported API version is 1.24, "
        b"please upgrade your client to a newer version\n"
    )


def test_a_swarm_cannot_be_left(engine: Daemon) -> None:
    assert engine.call("POST", "/swarm/leave") == (
        503,
        {"message": "This node is not part of a swarm"},
    )
    assert engine.call("GET", "/plugins") == (200, [])


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GARBAGE\r\n\r\n",
        b"\r\n\r\n\x00\x01\x02\r\n\r\n",
        b"GET /_ping HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /_ping\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}",
        b"POST /containers/create HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n"
        b"\r\n0\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /containers/x/attach HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /containers/x/attach HTTP/1.1\nHost: x\n\n",
        b"POST /containers/x/attach HTTP/1.1\r\nA: " + b"x" * 200_000 + b"\r\n\r\n",
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_malformed_http_is_answered_400_or_closed(
    talk: Talk, engine: Daemon, request_bytes: bytes
) -> None:
    """isolation 55: never 5xx, never a hang, never a traceback."""
    client = talk()
    try:
        client.send(request_bytes)
        answered = client.rest()
    except (BrokenPipeError, ConnectionResetError):
        answered = b""
    assert answered == b"" or answered.split(b" ")[1] == b"400", answered
    assert b"Traceback" not in answered
    assert engine.call("GET", "/_ping") == (200, "OK")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"x"', b"{", b"nul", b'{"a":NaN}', b"[" * 200_000, b'{"Image":"\\u0000"}',
     b'{"Image":"\\ud800"}', b'{"Memory":1e999}', b'{"HostConfig":{"Memory":' + b"9" * 40 + b"}}",
     b"\xff\xfe", b"x" * (5 << 20)],
    ids=lambda raw: repr(raw[:20]),
)  # fmt: skip
def test_a_bad_document_is_a_bad_request(talk: Talk, body: bytes) -> None:
    client = talk()
    head = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    client.send(b"POST /containers/create HTTP/1.1\r\nHost: x\r\n" + head)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        client.send(body)
    answer = client.head()
    assert answer.status == 400


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_has_to_be_declared_as_json(talk: Talk, kind: str) -> None:
    """isolation 56: a web page can't send JSON across sites without asking first."""
    client = talk()
    declared = f"Content-Type: {kind}\r\n" if kind else ""
    head = f"POST /containers/create HTTP/1.1\r\nHost: x\r\n{declared}Content-Length: 2\r\n\r\n"
    client.send(head.encode() + b"{}")
    answer, body = client.answer()
    assert answer.status == 400
    assert b"must be 'application/json'" in body


def test_a_client_that_only_stops_sending_gets_its_answer(talk: Talk) -> None:
    client = talk()
    client.request("GET", "/info")
    client.half_close()
    head, body = client.answer()
    assert head.status == 200
    assert json.loads(body)["OSType"] == "linux"
    assert client.rest() == b""


def test_requests_in_one_packet_are_answered_in_their_order(talk: Talk) -> None:
    client = talk()
    client.request("GET", "/nosuch", then=b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.answer()[0].status == 404
    head, body = client.answer()
    assert (head.status, body) == (200, b"OK")


def test_half_sent_requests_do_not_hold_up_others(talk: Talk, engine: Daemon) -> None:
    """isolation 59"""
    halves = (
        b"GET /_pi",
        b"POST /containers/x/att",
        b"POST /containers/x/attach HTTP/1.1\r\nA: ",
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    )
    for number in range(160):
        talk().send(halves[number % len(halves)])
    assert engine.call("GET", "/_ping") == (200, "OK")


def test_the_socket_is_for_root_and_its_group_only(engine: Daemon) -> None:
    """isolation 54"""
    found = os.stat(engine.socket)
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert found.st_uid == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:2375"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:2375"}, 200),
        ({"Host": "evil.example"}, 400),
        ({"Host": "127.0.0.1.evil.example:2375"}, 400),
        ({"Host": ""}, 400),
        ({"Host": "localhost", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
def test_on_tcp_web_pages_stay_out(
    engine: Daemon, shared_host: Host, headers: dict[str, str], status: int
) -> None:
    """isolation 56: neither across sites nor by a rebound name."""

    def ask() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", TCP_PORT, timeout=10)
        connection.putrequest("GET", "/_ping", skip_host=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            return connection.getresponse().status
        finally:
            connection.close()

    assert shared_host.call(ask) == status


def test_what_was_wrong_with_a_request_is_in_the_log(talk: Talk, engine: Daemon) -> None:
    client = talk()
    client.send(b"GET /_ping HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n")
    assert client.answer()[0].status == 400
    assert engine.call("POST", "/containers/create?name=wrong", {"Image": 5})[0] == 400
    assert engine.call("GET", "/containers/missing/json")[0] == 404
    lines = [line.partition(" INFO ")[2] for line in engine.log.splitlines()]
    assert [line for line in lines if "malformed request: " in line]
    assert [line for line in lines if "POST '/containers/create?name=wrong': 400 invalid" in line]
    assert not [line for line in lines if "/containers/missing" in line]
