"""One engine for all attacks of this folder, driven as its clients drive it: by its API."""

from __future__ import annotations

import itertools
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.engine.api.dialogue import Dialogue, output
from tests.engine.images.archives import Entry, folder, symlink, tar
from tests.host import Daemon, Host, UnixConnection, host

TAR = "application/x-tar"


@dataclass
class Prison:
    """Makes containers, and takes all of them down at the end."""

    host: Host
    daemon: Daemon
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def create(
        self, *command: str, image: str = "rootfs:/", config: object = None, **wanted: object
    ) -> str:
        """`wanted` is of HostConfig, `config` of the document around it."""
        name = f"cell{next(self.numbers)}"
        body = {
            "Image": image,
            "Cmd": list(command),
            "HostConfig": {"NetworkMode": "none", **wanted},
            **(config if isinstance(config, dict) else {}),
        }
        status, answer = self.daemon.call("POST", f"/containers/create?name={name}", body)
        assert status == 201, answer
        return name

    def start(self, name: str) -> tuple[int, object]:
        return self.daemon.call("POST", f"/containers/{name}/start")

    def run(self, *command: str, **options: object) -> str:
        """The name of a container that runs."""
        name = self.create(*command, **options)  # type: ignore[arg-type]
        assert self.start(name) == (204, None)
        return name

    def finish(self, *command: str, **options: object) -> tuple[int, bytes]:
        """Exit code and output, both streams, of a container that runs to its end."""
        name = self.run(*command, **options)
        _, answer = self.daemon.call("POST", f"/containers/{name}/wait")
        assert isinstance(answer, dict)
        return answer["StatusCode"], self.logs(name)

    def logs(self, name: str) -> bytes:
        _, raw = self.raw("GET", f"/containers/{name}/logs?stdout=1&stderr=1")
        return output(raw, 1) + output(raw, 2)

    def execute(self, name: str, *command: str, **options: object) -> tuple[int, bytes]:
        """Exit code and output of an exec, or the code and text of what refused it."""
        body = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True, **options}
        status, made = self.daemon.call("POST", f"/containers/{name}/exec", body)
        assert isinstance(made, dict)
        assert status == 201, made
        status, raw = self.raw("POST", f"/exec/{made['Id']}/start", b"{}", "application/json")
        _, found = self.daemon.call("GET", f"/exec/{made['Id']}/json")
        assert isinstance(found, dict)
        return found["ExitCode"], output(raw, 1) + output(raw, 2) if status == 200 else raw

    def raw(self, method: str, path: str, body: bytes = b"", kind: str = TAR) -> tuple[int, bytes]:
        connection = UnixConnection(self.daemon.socket, 300)  # unpacking takes its time, emulated
        try:
            connection.request(method, path, body, {"Content-Type": kind} if body else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def refused(self, method: str, path: str, body: object) -> str:
        """The words of a refusal, which is one of the client's mistakes and no other."""
        status, answer = self.daemon.call(method, path, body)
        assert status == 400, (body, status, answer)
        assert isinstance(answer, dict)
        return str(answer["message"])

    def load(self, archive: bytes) -> str:
        """What `docker load` would print."""
        _, raw = self.raw("POST", "/images/load", archive)
        return raw.decode()

    def import_(self, archive: bytes, name: str = "") -> tuple[int, str]:
        status, raw = self.raw("POST", f"/images/create?fromSrc=-&repo={name}", archive)
        return status, raw.decode()

    def images(self) -> list[str]:
        _, answer = self.daemon.call("GET", "/images/json?all=1")
        assert isinstance(answer, list)
        return [image["Id"] for image in answer if "rootfs:/" not in (image["RepoTags"] or ())]

    def processes(self) -> list[int]:
        """The daemon, and what it has started for itself."""
        pids = [self.daemon.process.pid]
        for pid in pids:
            path = Path(f"/proc/{pid}/task/{pid}/children")
            pids += [int(child) for child in path.read_text().split()] if path.exists() else []
        return pids

    def clear(self) -> None:
        self.daemon.remove_containers()
        self.daemon.call("POST", '/volumes/prune?filters={"all":["1"]}')
        for image in self.images():
            self.daemon.call("DELETE", f"/images/{image}?force=1")


@pytest.fixture(scope="package")
def shared_prison() -> Iterator[Prison]:
    with host() as opened:
        yield Prison(opened, opened.daemon())


@pytest.fixture
def prison(shared_prison: Prison) -> Iterator[Prison]:
    yield shared_prison
    shared_prison.clear()
    assert "Traceback" not in shared_prison.daemon.log


@pytest.fixture
def talk(prison: Prison) -> Iterator[Callable[[], Dialogue]]:
    """Opens raw connections, and closes them at the end."""
    opened: list[Dialogue] = []

    def connect() -> Dialogue:
        opened.append(Dialogue(prison.daemon.socket))
        return opened[-1]

    yield connect
    for dialogue in opened:
        dialogue.close()


@pytest.fixture
def outside(prison: Prison) -> Iterator[Path]:
    """A folder of the host with a secret in it; whatever changes there is an escape."""
    folder = prison.host.folder / "outside"
    (folder / "folder").mkdir(parents=True)
    (folder / "secret").write_text("outside\n")
    (folder / "secret").chmod(0o600)
    before = state(folder)
    yield folder
    assert state(folder) == before
    for path in (folder / "secret", folder / "folder", folder):
        path.unlink() if path.is_file() else path.rmdir()


def state(folder: Path) -> list[object]:
    """All that could change in a tree."""
    found: list[object] = []
    for path in sorted([folder, *folder.rglob("*")]):
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found.append((str(path), status.st_mode, status.st_uid, status.st_nlink, content,
                      status.st_mtime_ns, os.listxattr(path, follow_symlinks=False)))  # fmt: skip
    return found


def programs() -> list[Entry]:
    """The folders of a system whose programs come in by a mount of the host's /usr."""
    return [
        *(folder(name) for name in ("usr", "etc", "tmp", "proc", "sys", "dev")),
        *(symlink(name, f"usr/{name}") for name in ("bin", "sbin", "lib", "lib64")),
    ]


USR = ["/usr:/usr:ro"]


def system(prison: Prison, *more: Entry, without: Iterable[str] = ()) -> str:
    """The name of an image that has `programs`, less some of them, and `more`."""
    kept = [entry for entry in programs() if entry[0].name not in set(without)]
    status, said = prison.import_(tar([*kept, *more]), "system")
    assert status == 200, said
    return "system"


def words(raw: bytes) -> str:
    """The message of a refusal."""
    return str(json.loads(raw)["message"])
