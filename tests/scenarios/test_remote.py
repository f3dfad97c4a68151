"""An engine on TCP with TLS, or behind ssh: who gets in, and whether streams are as on a socket."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compose.client.ssh import DIAL
from tests.host import Host, host

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]
PORT = 2376
STACK = "services: {web: {image: 'rootfs:/', command: sleep 100, stop_grace_period: 0s}}\n"
# What sshd would run: the words after the host, with the stream as input and output.
SSH = """#!/bin/sh
echo "$*" >> {log}
exec {python} -c '
import os, select, socket
s = socket.socket(socket.AF_UNIX); s.connect("{socket}")
ends = {{0: s.fileno(), s.fileno(): 1}}
while ends:
    for end in select.select(list(ends), [], [])[0]:
        data = os.read(end, 65536)
        if data:
            os.write(ends[end], data)
        elif ends.pop(end) == s.fileno():
            s.shutdown(socket.SHUT_WR)
        else:
            ends.clear()
'
"""


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def make_certificates(folder: Path) -> None:
    """ca.pem, and cert.pem and key.pem that it signed, good for both sides; other.pem/other.key
    that it didn't."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    at = folder.joinpath
    for name, key in (("ca.pem", "ca.key"), ("other.pem", "other.key")):
        openssl("req", "-x509", *curve, "-subj", f"/CN={name}", "-keyout", str(at(key)),
                "-out", str(at(name)))  # fmt: skip
    openssl("req", *curve, "-subj", "/CN=engine", "-keyout", str(at("key.pem")),
            "-out", str(at("request.pem")))  # fmt: skip
    at("names").write_text("subjectAltName=IP:127.0.0.1,DNS:engine.example")
    openssl("x509", "-req", "-in", str(at("request.pem")), "-CA", str(at("ca.pem")), "-CAkey",
            str(at("ca.key")), "-CAcreateserial", "-days", "2", "-extfile", str(at("names")),
            "-out", str(at("cert.pem")))  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    with host() as opened:
        make_certificates(opened.folder)
        (opened.folder / "compose.yaml").write_text(STACK)
        files = [f"--tls{word}={opened.folder / file}" for word, file in
                 (("cacert", "ca.pem"), ("cert", "cert.pem"), ("key", "key.pem"))]  # fmt: skip
        address = f"tcp://0.0.0.0:{PORT}"  # not loopback alone: certificates are checked
        opened.daemon("engine", "-H", address, "--tlsverify", *files, "--group", "0")
        yield opened


def compose(place: Host, *words: str, input: str | None = None, **env: str) -> str:
    program = Path(sys.executable).with_name("pycompose")
    done = place.run(str(program), "-f", str(place.folder / "compose.yaml"), *words,
                     env={"HOME": str(place.folder), **env}, input=input, check=False)  # fmt: skip
    return done.stdout + done.stderr


def secure(place: Host) -> dict[str, str]:
    return {
        "DOCKER_HOST": f"tcp://127.0.0.1:{PORT}",
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_CERT_PATH": str(place.folder),
    }


def ask(place: Host, context: ssl.SSLContext, **headers: str) -> int:
    def get() -> int:
        connection = http.client.HTTPSConnection("127.0.0.1", PORT, context=context, timeout=10)
        try:
            connection.request("GET", "/_ping", headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    return place.call(get)


def test_only_a_certificate_of_the_authority_gets_in(place: Host) -> None:
    context = ssl.create_default_context(cafile=place.folder / "ca.pem")
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"):
        ask(place, context)
    context.load_cert_chain(place.folder / "other.pem", place.folder / "other.key")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(place, context)
    context.load_cert_chain(place.folder / "cert.pem", place.folder / "key.pem")
    assert ask(place, context) == 200
    assert ask(place, context, Host="engine.example") == 200
    assert ask(place, context, Origin="https://elsewhere.example") == 403


def test_who_forgets_tls_is_told(place: Host) -> None:
    def get() -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
        try:
            connection.request("GET", "/_ping")
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    assert place.call(get) == (400, b"Client sent an HTTP request to an HTTPS server.\n")
    said = compose(place, "ls", DOCKER_HOST=f"tcp://127.0.0.1:{PORT}")
    assert "Client sent an HTTP request to an HTTPS server." in said


def test_the_client_says_what_is_missing(place: Host) -> None:
    address = f"tcp://127.0.0.1:{PORT}"
    folder = place.folder
    said = compose(place, "-H", address, "--tlscacert", str(folder / "ca.pem"), "ls")
    assert "refused the connection" in said or "lost the connection" in said, said
    said = compose(place, "-H", address, "--tlsverify", "--tlscacert", str(folder / "nosuch"), "ls")
    assert f"cannot read the authority {folder}/nosuch" in said
    said = compose(place, "-H", f"tcp://localhost:{PORT}", "--tlsverify", "ls",
                   DOCKER_CERT_PATH=str(folder))  # fmt: skip
    assert "Hostname mismatch" in said


def test_streams_end_on_each_side_by_themselves(place: Host) -> None:
    """Over TLS, and through ssh."""
    log = place.folder / "ssh.log"
    folder = place.folder / "bin"
    folder.mkdir()
    (daemon,) = place.daemons
    (folder / "ssh").write_text(SSH.format(log=log, python=sys.executable, socket=daemon.socket))
    (folder / "ssh").chmod(0o755)
    ssh = {
        "DOCKER_HOST": "ssh://me@far:222",
        "PATH": f"{folder}:/usr/bin:/bin",
        "XDG_RUNTIME_DIR": str(place.folder),
    }
    try:
        said = compose(place, "up", "-d", **secure(place))
        assert "web.1  started" in said, said
        for way in (secure(place), ssh):
            # wc answers when its input has ended, and its answer comes on a stream still open.
            words = ("exec", "-T", "web", "wc", "-c")
            assert compose(place, *words, input="x" * 300_000, **way).strip() == "300000"
            assert "web" in compose(place, "ps", **way)
        assert f"-l me -p 222 -- far {DIAL}" in log.read_text()
    finally:
        compose(place, "down", **secure(place))


def test_the_socket_is_of_the_group_that_was_named(place: Host) -> None:
    (daemon,) = place.daemons
    status = Path(daemon.socket).stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o660, 0)
