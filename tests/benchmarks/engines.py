"""The engines that are compared: ours, and a real dockerd where there is one.

Each lives in a network namespace of its own, with the same busybox image in it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.host import Host, UnixConnection, host

IMAGE = "bench:1"


@dataclass(frozen=True)
class Engine:
    """Where an engine listens, and the program that drives Compose projects on it."""

    name: str
    socket: str
    host: Host
    compose: tuple[str, ...]  # empty: not here
    pid: int
    environment: Mapping[str, str]

    def call(self, method: str, path: str, body: object = None, timeout: float = 120) -> object:
        status, answer = self.request(method, path, body, timeout)
        assert status < 400, f"{self.name}: {method} {path}: {status} {answer!r}"
        return answer

    def request(
        self, method: str, path: str, body: object = None, timeout: float = 120
    ) -> tuple[int, object]:
        connection = UnixConnection(self.socket, timeout)
        try:
            raw = isinstance(body, bytes)
            kind = "application/x-tar" if raw else "application/json"
            text = body if raw else None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": kind} if text else {})
            answer = connection.getresponse()
            content = answer.read()
            is_json = "json" in answer.headers.get("Content-Type", "")
            return answer.status, json.loads(content or b"null") if is_json else content
        finally:
            connection.close()


def busybox_tar() -> bytes:
    """A root filesystem of one static program. Raises FileNotFoundError where it isn't here."""
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("busybox (Debian: apt-get install busybox-static)")
    names = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(program, "bin/busybox")
        for name in names.stdout.split():
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            if name != "busybox":
                tar.addfile(link)
    return buffer.getvalue()


def load_image(engine: Engine) -> None:
    connection = UnixConnection(engine.socket, 60)
    try:
        headers = {"Content-Type": "application/x-tar"}
        path = "/images/create?fromSrc=-&repo=bench&tag=1"
        connection.request("POST", path, busybox_tar(), headers)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200, text
        assert b"error" not in text, text
    finally:
        connection.close()


@contextlib.contextmanager
def ours() -> Iterator[Engine]:
    with host() as place:
        daemon = place.daemon()
        engine = Engine(
            name="pyengine",
            socket=daemon.socket,
            host=place,
            compose=(str(Path(sys.executable).with_name("pycompose")),),
            pid=daemon.process.pid,
            environment={"DOCKER_HOST": daemon.address},
        )
        load_image(engine)
        yield engine
        engine.call("DELETE", f"/images/{IMAGE}?force=1")


@contextlib.contextmanager
def docker() -> Iterator[Engine | None]:
    """None where there is no dockerd. PEER_ROOT may name a folder with Docker's packages."""
    root = os.environ.get("PEER_ROOT", "")
    folders = [f"{root}/usr/{part}" for part in ("sbin", "bin", "libexec/docker/cli-plugins")]
    path = os.pathsep.join([*(folders if root else []), os.environ["PATH"], "/usr/sbin"])
    program = shutil.which("dockerd", path=path)
    if program is None:
        yield None
        return
    with host() as place:
        folder = place.folder / "docker"
        folder.mkdir()
        (folder / "daemon.json").write_text("{}")
        address = f"unix://{folder}/docker.sock"
        environment = {"PATH": path, "DOCKER_HOST": address, "HOME": str(folder)}
        argv = [program, f"--config-file={folder}/daemon.json", f"--host={address}",
                f"--data-root={folder}/data", f"--exec-root={folder}/exec",
                f"--pidfile={folder}/pid"]  # fmt: skip
        with open(folder / "log", "wb") as log:
            process = subprocess.Popen(
                place.command(argv), stdout=log, stderr=log, env={**os.environ, **environment}
            )
        try:
            wait_for_socket(folder / "docker.sock", process)
            compose = compose_command(path)
            engine = Engine("dockerd", f"{folder}/docker.sock", place, compose, process.pid,
                            environment)  # fmt: skip
            load_image(engine)
            yield engine
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            for mount in reversed(mounts_below(folder)):
                place.run("umount", "-l", mount, check=False)


def wait_for_socket(path: Path, process: subprocess.Popen[bytes]) -> None:
    """dockerd tells nobody when it is ready: ask until it answers."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError):
            connection = UnixConnection(str(path), 5)
            connection.request("GET", "/_ping")
            if connection.getresponse().status == 200:
                connection.close()
                return
        time.sleep(0.1)
    raise RuntimeError(f"dockerd did not start: {(path.parent / 'log').read_text()[-2000:]}")


def compose_command(path: str) -> tuple[str, ...]:
    """Docker Compose 2: the program of its own, or the CLI's plugin."""
    for program in ("docker-compose", "docker"):
        found = shutil.which(program, path=path)
        if found is None:
            continue
        command = (found,) if program == "docker-compose" else (found, "compose")
        said = subprocess.run([*command, "version"], capture_output=True, text=True)
        if said.returncode == 0 and "Docker Compose version" in said.stdout:
            return command
    return ()


def mounts_below(folder: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if line.split()[4].startswith(str(folder))]
