"""Images: an image of 200 MB from and to a registry on this machine, in and out as an archive; how
long each takes, and the most memory that the engine's daemon uses meanwhile.

The files are this machine's own, which compress as those of other images do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.engines import Engine
from tests.benchmarks.measures import timed
from tests.host import Host, UnixConnection

SIZE = 200_000_000  # bytes of files
LAYERS = 4
PORT = 5000
NAME = f"127.0.0.1:{PORT}/bench/large"
Figures = dict[str, dict[str, list[float]]]


def rounds(engines: list[Engine], figures: Figures, count: int) -> None:
    if shutil.which("docker-registry") is None:
        print("no docker-registry here (Debian: apt-get install docker-registry): no pulls\n")
        return
    own = engines[0]
    folder = own.host.folder / "registry"
    folder.mkdir()
    archive = own.host.folder / "large.tar"
    write_archive(archive)
    with contextlib.ExitStack() as serving:
        for engine in engines:
            serving.enter_context(registry(engine.host, folder))
        load(own, archive)
        for _ in range(count):
            for engine in engines:
                work = {
                    "push, 200 MB": lambda each=engine: push(each),
                    "pull, 200 MB": lambda each=engine: pull(each),
                    "save, 200 MB": lambda each=engine: save(each),
                    "load, 200 MB": lambda each=engine: load(each, archive),
                }
                # Once before: what is pushed is compressed, and both are to send the same.
                load(engine, archive)
                for name, call in work.items():
                    if name.startswith(("pull", "load")):
                        remove(engine)
                    if name.startswith("push"):
                        forget(folder)
                    taken, memory = measured(engine, call)
                    figures[name][engine.name].append(taken)
                    figures[f"{name.partition(',')[0]}, peak memory (MB)"][engine.name].append(
                        memory
                    )
                remove(engine)


def measured(engine: Engine, work: Callable[[], None]) -> tuple[float, float]:
    """Milliseconds, and megabytes at the peak."""
    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")  # proc(5): the peak starts anew
    taken = timed(work)
    status = Path(f"/proc/{engine.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)
    assert found is not None
    return taken, int(found[1]) / 1000


def write_archive(path: Path) -> None:
    """As `docker save` writes it; each layer has files of its own."""
    files = machine_files()
    manifest = {"Config": "config.json", "RepoTags": [f"{NAME}:1"], "Layers": []}
    diff_ids = []
    with tarfile.open(path, "w") as archive:
        for index in range(LAYERS):
            layer = path.parent / f"layer-{index}.tar"
            size = 0
            with tarfile.open(layer, "w") as content:
                while size < SIZE // LAYERS:
                    file = next(files)
                    content.add(file, arcname=str(file).lstrip("/"))
                    size += file.stat().st_size
            with open(layer, "rb") as written:
                diff_ids.append("sha256:" + hashlib.file_digest(written, "sha256").hexdigest())
            archive.add(layer, arcname=f"{index}/layer.tar")
            manifest["Layers"].append(f"{index}/layer.tar")  # type: ignore[attr-defined]
            layer.unlink()
        document = {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
        for name, what in (("config.json", document), ("manifest.json", [manifest])):
            file = path.parent / name
            file.write_text(json.dumps(what))
            archive.add(file, arcname=name)


def machine_files() -> Iterator[Path]:
    for folder, folders, names in os.walk("/usr/lib"):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 20_000_000:
                yield path


@contextlib.contextmanager
def registry(host: Host, folder: Path) -> Iterator[None]:
    """On loopback of the host; several may serve the same folder."""
    document = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {
            "filesystem": {"rootdirectory": str(folder)},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{PORT}"},
    }
    file = host.folder / "registry.json"
    file.write_text(json.dumps(document))
    process = subprocess.Popen(
        host.command(["docker-registry", "serve", str(file)]),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", PORT)) == 0

    try:
        limit = time.monotonic() + 20
        while not host.call(listens):
            assert time.monotonic() < limit, "docker-registry does not listen"
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def load(engine: Engine, archive: Path) -> None:
    connection = UnixConnection(engine.socket, 300)
    try:
        with open(archive, "rb") as content:
            headers = {
                "Content-Type": "application/x-tar",
                "Content-Length": str(archive.stat().st_size),
            }
            connection.request("POST", "/images/load?quiet=1", content, headers)
            said = connection.getresponse().read()
        assert b"Loaded image" in said, said
    finally:
        connection.close()


def save(engine: Engine) -> None:
    connection = UnixConnection(engine.socket, 300)
    try:
        connection.request("GET", f"/images/{NAME}:1/get")
        answer = connection.getresponse()
        assert answer.status == 200
        while answer.read(1 << 20):
            pass
    finally:
        connection.close()


def pull(engine: Engine) -> None:
    said = stream(engine, f"/images/create?fromImage={NAME}&tag=1")
    assert b"Downloaded newer image" in said, said[-1000:]


def push(engine: Engine) -> None:
    said = stream(engine, f"/images/{NAME}/push?tag=1")
    assert b'"aux"' in said, said[-1000:]


def stream(engine: Engine, path: str) -> bytes:
    connection = UnixConnection(engine.socket, 300)
    try:
        connection.request("POST", path, headers={"X-Registry-Auth": "e30="})
        return connection.getresponse().read()
    finally:
        connection.close()


def remove(engine: Engine) -> None:
    """The image, and all its layers."""
    engine.request("DELETE", f"/images/{NAME}:1?force=1")


def forget(folder: Path) -> None:
    """A registry with nothing in it."""
    shutil.rmtree(folder / "docker", ignore_errors=True)
