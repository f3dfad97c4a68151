"""A client that says exactly the bytes it is told, and reads exactly what is there."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from dataclasses import dataclass, field
from pathlib import Path

from tests.host import Daemon


@dataclass
class Answer:
    status: int
    reason: str
    headers: dict[str, str] = field(default_factory=dict)


class Dialogue:
    def __init__(self, path: str, *, port: int = 0) -> None:
        """`port`: by TCP instead, of this machine."""
        self.socket = socket.socket(socket.AF_INET if port else socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port) if port else path)
        self._buffer = b""

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *headers: str,
        then: bytes = b"",
        upgrade: bool = False,
    ) -> None:
        """`then` goes out in one packet with the head and the body."""
        raw = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(raw)}"]
        if body is not None:
            lines.append("Content-Type: application/json")
        if upgrade:
            lines += ["Connection: Upgrade", "Upgrade: tcp"]
        head = "\r\n".join((*lines, *headers, "", "")).encode()
        self.send(head + raw + then)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._more()
        at = self._buffer.index(end) + len(end)
        data, self._buffer = self._buffer[:at], self._buffer[at:]
        return data

    def _more(self) -> None:
        received = self.socket.recv(65536)
        assert received, f"the connection ended after {self._buffer!r}"
        self._buffer += received

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        gathered = [self._buffer]
        self._buffer = b""
        while received := self.socket.recv(1 << 20):
            gathered.append(received)
        return b"".join(gathered)

    def head(self) -> Answer:
        first, *lines = self.read_until(b"\r\n\r\n").decode().split("\r\n")
        _, status, reason = first.split(" ", 2)
        headers = dict(line.split(": ", 1) for line in lines if line)
        return Answer(int(status), reason, {key.lower(): value for key, value in headers.items()})

    def answer(self) -> tuple[Answer, bytes]:
        head = self.head()
        if head.headers.get("transfer-encoding") == "chunked":
            return head, self.chunks()
        return head, self.read(int(head.headers.get("content-length", "0")))

    def chunk(self) -> bytes:
        """b"" is the last one."""
        size = int(self.read_until(b"\r\n"), 16)
        data = self.read(size)
        assert self.read(2) == b"\r\n"
        return data

    def chunks(self) -> bytes:
        return b"".join(iter(self.chunk, b""))


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """(stream, bytes) of each stdcopy frame."""
    found = []
    while data:
        kind, size = struct.unpack(">BxxxL", data[:8])
        assert len(data) >= 8 + size, f"a frame was cut: {data!r}"
        found.append((kind, data[8 : 8 + size]))
        data = data[8 + size :]
    return found


def output(data: bytes, kind: int = 1) -> bytes:
    return b"".join(payload for stream, payload in frames(data) if stream == kind)


def open_streams(engine: Daemon) -> int:
    """Stream sockets of the daemon (nsenter has become it): clients, and what it carries for
    them. Of other descriptors there come more at any time, for what it keeps ready."""
    process = Path(f"/proc/{engine.process.pid}")
    rows = [line.split() for line in (process / "net/unix").read_text().splitlines()[1:]]
    streams = {f"socket:[{row[6]}]" for row in rows if row[4] == "0001"}  # SOCK_STREAM
    found = 0
    for descriptor in (process / "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(descriptor) in streams
    return found
