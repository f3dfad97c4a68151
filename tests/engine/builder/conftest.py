"""One engine for all builds of this folder, with an image of the machine's busybox."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from tests.compose.engines import busybox_tar, missing
from tests.host import Daemon, Host, UnixConnection, host


@dataclass
class Built:
    status: int
    messages: list[dict[str, object]]

    @property
    def output(self) -> str:
        return "".join(str(one.get("stream", "")) for one in self.messages)

    @property
    def error(self) -> str:
        return next((str(one["error"]) for one in self.messages if "error" in one), "")

    @property
    def details(self) -> str:
        detail = next((one["errorDetail"] for one in self.messages if "errorDetail" in one), {})
        return str(detail.get("details", "")) if isinstance(detail, dict) else ""

    @property
    def code(self) -> object:
        for one in self.messages:
            detail = one.get("errorDetail")
            if isinstance(detail, dict):
                return detail.get("code")
        return None

    @property
    def id(self) -> str:
        for one in self.messages:
            if isinstance(aux := one.get("aux"), dict):
                return str(aux["ID"])
        raise AssertionError(self.messages)


def context_of(files: Mapping[str, str | bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
                continue
            raw = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(raw), 0o644
            archive.addfile(info, io.BytesIO(raw))
    return buffer.getvalue()


@dataclass
class Builds:
    """Builds by the API of one engine."""

    daemon: Daemon
    headers: dict[str, str] = field(default_factory=dict)

    def build(
        self,
        text: str,
        files: Mapping[str, str | bytes | tarfile.TarInfo] | None = None,
        **query: object,
    ) -> Built:
        """Whatever comes of it."""
        archive = context_of({"Dockerfile": text, **(files or {})})
        given = {
            key: json.dumps(value) if isinstance(value, dict) else value
            for key, value in query.items()
        }
        connection = UnixConnection(self.daemon.socket, 60)
        try:
            connection.request(
                "POST",
                f"/build?{urlencode(given, doseq=True)}",
                archive,
                {"Content-Type": "application/x-tar", **self.headers},
            )
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        messages = [json.loads(line) for line in said.splitlines()]
        if answer.status != 200:
            messages = [{"error": messages[0]["message"]}]
        return Built(answer.status, messages)

    def ok(
        self,
        text: str,
        files: Mapping[str, str | bytes | tarfile.TarInfo] | None = None,
        **query: object,
    ) -> Built:
        built = self.build(text, files, **query)
        assert built.status == 200, built.error
        assert not built.error, built.output + built.error
        return built

    def image(self, reference: str) -> dict[str, object]:
        status, found = self.daemon.call("GET", f"/images/{reference}/json")
        assert status == 200, found
        assert isinstance(found, dict)
        return found

    def config(self, reference: str) -> dict[str, object]:
        found = self.image(reference)["Config"]
        assert isinstance(found, dict)
        return found

    def run(self, image: str, *command: str) -> str:
        """What a container of the image prints."""
        body = {"Image": image, "HostConfig": {"NetworkMode": "none"}}
        if command:
            body["Cmd"] = list(command)
        status, created = self.daemon.call("POST", "/containers/create", body)
        assert status == 201, created
        assert isinstance(created, dict)
        name = created["Id"]
        try:
            status, said = self.daemon.call("POST", f"/containers/{name}/start")
            assert status == 204, said
            self.daemon.call("POST", f"/containers/{name}/wait")
            connection = UnixConnection(self.daemon.socket, 60)
            connection.request("GET", f"/containers/{name}/logs?stdout=1&stderr=1")
            raw = connection.getresponse().read()
            connection.close()
        finally:
            self.daemon.call("DELETE", f"/containers/{name}?force=1&v=1")
        text = b""
        while raw:
            length = int.from_bytes(raw[4:8], "big")
            text, raw = text + raw[8 : 8 + length], raw[8 + length :]
        return text.decode()

    def containers(self) -> object:
        return self.daemon.call("GET", "/containers/json?all=1")[1]

    def leftovers(self) -> list[str]:
        folder = self.daemon.data_root / "builder/tmp"
        return [str(path) for path in folder.glob("*")]


@pytest.fixture(scope="package")
def builder_host() -> Iterator[Host]:
    if reason := missing("pyengine"):
        pytest.skip(reason)
    with host() as opened:
        yield opened


@pytest.fixture(scope="package")
def builder_engine(builder_host: Host) -> Daemon:
    daemon = builder_host.daemon()
    import_busybox(daemon)
    return daemon


def import_busybox(daemon: Daemon) -> None:
    connection = UnixConnection(daemon.socket, 60)
    connection.request(
        "POST",
        "/images/create?fromSrc=-&repo=busybox&tag=test",
        busybox_tar(),
        {"Content-Type": "application/x-tar"},
    )
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    assert answer.status == 200, text


@pytest.fixture
def builds(builder_engine: Daemon) -> Iterator[Builds]:
    found = Builds(builder_engine)
    yield found
    assert found.containers() == []
    assert found.leftovers() == []
