"""Finds the daemon that works with an exec root, and asks it. Effects only; no aiohttp."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from compose.warm.start import servers
from engine.claims import holders
from engine.options import absolute, parse_address
from engine.records import read_record
from engine.settings import UnixAddress, default_places


@dataclass(frozen=True, slots=True)
class Running:
    pid: int
    version: str
    hosts: tuple[str, ...]
    data_root: str


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def find_running(exec_root: str) -> Running | None:
    """None where no daemon holds the folder's lock, whatever a crash left there."""
    places = default_places(os.geteuid(), os.environ)
    folder = absolute("--exec-root", exec_root) if exec_root else places.exec_root
    try:
        record = read_record(folder / "engine.json")
    except FileNotFoundError:
        return None
    assert isinstance(record, dict)
    if record["pid"] not in holders(folder):
        return None
    return Running(record["pid"], record["version"], tuple(record["hosts"]), record["data_root"])


def ask(engine: Running, path: str) -> object:
    """The answer to a GET on the engine's first UNIX socket, None where it doesn't answer."""
    for host in engine.hosts:
        address = parse_address(host)
        if isinstance(address, UnixAddress):
            connection = UnixConnection(str(address.path))
            try:
                connection.request("GET", path)
                return json.loads(connection.getresponse().read())
            except (OSError, ValueError, http.client.HTTPException):
                return None
            finally:
                connection.close()
    return None


def count_containers(engine: Running) -> int | None:
    """How many run; None where the engine doesn't say."""
    answer = ask(engine, "/info")
    return answer["ContainersRunning"] if isinstance(answer, dict) else None


def warm_processes(engine: Running) -> list[int]:
    """The pids of those that run our commands on this engine."""
    addresses = map(parse_address, engine.hosts)
    paths = [str(each.path) for each in addresses if isinstance(each, UnixAddress)]
    return [pid for path in paths for pid in servers(path)]


def memory(pid: int) -> int:
    """Bytes that are a warm process's own, or its part of what it shares; and its children's that
    wait as it does."""
    name = Path(f"/proc/{pid}/comm").read_text()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    used = 0
    for each in (pid, *children):
        with contextlib.suppress(OSError):  # it has ended
            if Path(f"/proc/{each}/comm").read_text() == name:
                text = Path(f"/proc/{each}/smaps_rollup").read_text()
                lines = (line.split() for line in text.splitlines())
                used += next(int(line[1]) * 1024 for line in lines if line[0] == "Pss:")
    return used
