"""An engine that only writes down what it is asked to create: to compare what clients send."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

ID = "c" * 64


@dataclass
class Recorder:
    address: str
    bodies: list[dict[str, object]] = field(default_factory=list)
    queries: list[dict[str, list[str]]] = field(default_factory=list)


@contextlib.contextmanager
def recorder(folder: Path) -> Iterator[Recorder]:
    path = folder / "recorder.sock"
    kept = Recorder(f"unix://{path}")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, document: object) -> None:
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Api-Version", "1.51")
            self.send_header("Ostype", "linux")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        def do_GET(self) -> None:
            self.answer(200, "OK")

        def do_HEAD(self) -> None:
            self.answer(200, None)

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            kept.bodies.append(json.loads(text))
            kept.queries.append(parse_qs(urlsplit(self.path).query))
            self.answer(201, {"Id": ID, "Warnings": []})

        def log_message(self, format: str, *arguments: object) -> None: ...

        def address_string(self) -> str:
            return "unix"

    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


# Maps whose keys are the user's: each of them says something.
_OWN_KEYS = ("Labels", "Volumes", "ExposedPorts", "PortBindings", "Tmpfs", "Sysctls", "Options")
_NOTHING = (None, "", 0, {}, [], [0, 0])


def essence(value: object, *, own_keys: bool = False) -> object:
    """Without what says nothing: null, "", 0, false, and empty lists and maps."""
    if isinstance(value, dict):
        inner = {key: essence(item, own_keys=key in _OWN_KEYS) for key, item in value.items()}
        if inner.get("MemorySwappiness") == -1:  # as it is
            del inner["MemorySwappiness"]
        for key in ("Binds", "Env"):  # docker goes through maps, so its order is any
            if isinstance(items := inner.get(key), list):
                inner[key] = sorted(items)
        return {key: item for key, item in inner.items() if own_keys or item not in _NOTHING}
    if isinstance(value, list):
        return [essence(item) for item in value]
    return value
