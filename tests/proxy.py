"""A forward proxy for tests: real, small, and with names of its own."""

from __future__ import annotations

import contextlib
import http.client
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


@contextlib.contextmanager
def proxying(
    routes: Mapping[str, int],
    listen: Callable[[Callable[[], ThreadingHTTPServer]], ThreadingHTTPServer] = lambda make: (
        make()
    ),
) -> Iterator[Proxy]:
    """Serves GET of http; of CONNECT it only learns, and refuses it. `listen` may make its
    socket in another network."""
    proxy = Proxy(routes)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def note(self) -> None:
            who = self.headers.get("Proxy-Authorization", "")
            proxy.seen.append((self.command, self.path, who))

        def do_CONNECT(self) -> None:
            self.note()
            self.send_error(407)

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
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
