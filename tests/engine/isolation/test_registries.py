"""A registry that is not who it says it is. Numbers in parentheses are isolation requirements
(docs/isolation.md)."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import threading
from pathlib import Path

import pytest

from tests.engine.isolation.conftest import Prison

pytestmark = [
    pytest.mark.kernel,
    *(
        pytest.mark.skipif(shutil.which(tool) is None, reason=f"needs {tool}")
        for tool in ("openssl", "ip")
    ),
]

ADDRESS = "10.99.99.99"  # not loopback, where plain HTTP would be allowed


def test_a_certificate_that_nobody_vouches_for_is_refused(prison: Prison, tmp_path: Path) -> None:
    """(52): CVE-2014-5277: nothing is asked, and plain HTTP is not tried instead."""
    prison.host.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    prison.host.run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
        f"/CN={ADDRESS}", "-addext", f"subjectAltName=IP:{ADDRESS}", "-keyout", str(key),
        "-out", str(certificate),
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = prison.host.call(lambda: socket.create_server((ADDRESS, 443)))
    heard: list[bytes] = []

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(10)
                    heard.append(client.recv(1, socket.MSG_PEEK))
                    with context.wrap_socket(client, server_side=True) as secured:
                        heard.append(secured.recv(1000))

    server = threading.Thread(target=serve)
    server.start()
    try:
        path = f"/images/create?fromImage={ADDRESS}:443/box&tag=1"
        _, raw = prison.raw("POST", path)
        assert b"certificate" in raw, raw
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        server.join()
        prison.host.run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")
    assert set(heard) <= {b"\x16", b""}  # hands were offered; no request came, in plain or not
    assert b"\x16" in heard
