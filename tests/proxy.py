"""A forward proxy for tests: real, small, and with names of its own."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = ("connection", "proxy-authorization", "transfer-encoding", "host")


@dataclass
class Proxy:
    routes: Mapping[str, int]  # `host:port` -> a port of 127.0.0.1
    port: int = 0
    seen: list[tuple[str, str, str]] = field(default_factory=list)  # method, target, who

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


def carry(one: socket.socket, other: socket.socket) -> None:
    """Bytes both ways, until one side has ended."""
    ends = {one: other, other: one}
    while True:
        # What TLS has decrypted already, no descriptor tells of.
        waiting = [end for end in ends if isinstance(end, ssl.SSLSocket) and end.pending()]
        for end in waiting or select.select(list(ends), [], [])[0]:
            if not (content := end.recv(1 << 16)):
                return
            ends[end].sendall(content)


@contextlib.contextmanager
def proxying(
    routes: Mapping[str, int],
    listen: Callable[[Callable[[], ThreadingHTTPServer]], ThreadingHTTPServer] = lambda make: (
        make()
    ),
    tls: ssl.SSLContext | None = None,
) -> Iterator[Proxy]:
    """Serves GET of http, and CONNECT to what it has a route to; others it refuses. `listen` may
    make its socket in another network; with `tls` the proxy itself is an https:// one."""
    proxy = Proxy(routes)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def note(self) -> None:
            who = self.headers.get("Proxy-Authorization", "")
            proxy.seen.append((self.command, self.path, who))

        def do_CONNECT(self) -> None:
            self.note()
            if self.path not in proxy.routes:
                self.send_error(407)
                return
            with socket.create_connection(("127.0.0.1", proxy.routes[self.path])) as upstream:
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                carry(self.connection, upstream)

        def do_GET(self) -> None:
            self.note()
            parts = urllib.parse.urlsplit(self.path)
            sent = {key: value for key, value in self.headers.items() if key.lower() not in _HOP}
            upstream = http.client.HTTPConnection("127.0.0.1", proxy.routes[parts.netloc])
            path = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
            upstream.request(self.command, path, headers={**sent, "Host": parts.netloc})
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for key, value in answer.getheaders():
                if key.lower() not in (*_HOP, "content-length"):
                    self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

    server = listen(lambda: ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
