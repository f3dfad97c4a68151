"""A real registry server, with and without TLS and passwords: what we push is pulled and run by
others, and the reverse."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.engines import IMAGE, busybox_tar, dockerd
from tests.host import FORWARDING, Daemon, Host, UnixConnection, host

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.peer,
    pytest.mark.skipif(
        shutil.which("docker-registry") is None, reason="there is no docker-registry here"
    ),
]
PYENGINE = (sys.executable, "-m", "engine.cli.main")
PLAIN = "127.0.0.1:5000"
ADDRESS = "10.88.0.1"  # not loopback, of which no certificate would be asked
SECURE = f"{ADDRESS}:5443"
USER, PASSWORD = "ann", "secret"
HTPASSWD = "ann:$2y$05$511FlggInvCcii1Pxc1ATOexC9cmj.zDYNNpzRDFSNlOHq1ZIMe8G\n"
ANN = {"username": USER, "password": PASSWORD}


@pytest.fixture(scope="module")
def place() -> Iterator[Host]:
    """Two registries in a host with an /etc of its own."""
    with host() as opened:
        for name in ("etc", "work"):
            (opened.folder / name).mkdir()
        layers = f"lowerdir=/etc,upperdir={opened.folder}/etc,workdir={opened.folder}/work"
        opened.run("mount", "--no-mtab", "-t", "overlay", "overlay", "-o", layers, "/etc")
        opened.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")
        make_certificates(opened)
        (opened.folder / "htpasswd").write_text(HTPASSWD)
        start_registry(opened, PLAIN, {})
        folder = opened.folder
        secured = {
            "http": {
                "tls": {
                    "certificate": f"{folder}/server.crt",
                    "key": f"{folder}/server.key",
                    "clientcas": [f"{folder}/ca.crt"],
                }
            },
            "auth": {"htpasswd": {"realm": "here", "path": f"{folder}/htpasswd"}},
        }
        start_registry(opened, SECURE, secured)
        yield opened
        # What is ours alone: the host tells what engines leave behind.
        for process in opened.processes:
            process.kill()
            process.wait()
        opened.run("umount", "--lazy", "/etc")
        opened.call(lambda: Path(FORWARDING).write_text(opened.forwarding))


def make_certificates(place: Host) -> None:
    """An authority of our own, and what it says of the server and of a client."""
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    folder = place.folder
    place.run("openssl", "req", "-x509", *curve, "-subj", "/CN=ours", "-keyout", f"{folder}/ca.key",
              "-out", f"{folder}/ca.crt")  # fmt: skip
    for name in ("server", "client"):
        place.run("openssl", "req", "-x509", *curve, "-subj", f"/CN={name}", "-addext",
                  f"subjectAltName=IP:{ADDRESS}", "-CA", f"{folder}/ca.crt", "-CAkey",
                  f"{folder}/ca.key", "-keyout", f"{folder}/{name}.key", "-out",
                  f"{folder}/{name}.crt")  # fmt: skip


def start_registry(place: Host, address: str, more: dict[str, object]) -> None:
    """Returns when it listens. Its configuration is YAML, of which JSON is a part."""
    port = int(address.rpartition(":")[2])
    root = place.folder / f"registry-{port}"
    root.mkdir()
    http = {"addr": address, **more.get("http", {})}  # type: ignore[dict-item]
    document = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(root)}},
        **more,
        "http": http,
    }
    file = place.folder / f"registry-{port}.json"
    file.write_text(json.dumps(document))
    with open(place.folder / f"registry-{port}.log", "wb") as log:
        place.processes.append(
            subprocess.Popen(
                place.command(["docker-registry", "serve", str(file)]), stdout=log, stderr=log
            )
        )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((address.rpartition(":")[0], port)) == 0

    limit = time.monotonic() + 20
    while not place.call(listens):
        assert time.monotonic() < limit, (place.folder / f"registry-{port}.log").read_text()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def engine(place: Host) -> Daemon:
    daemon = place.daemon()
    import_busybox(daemon.socket)
    return daemon


@pytest.fixture(scope="module")
def docker(place: Host) -> Iterator[str]:
    """The socket of a real dockerd."""
    if shutil.which("dockerd") is None:
        pytest.skip("there is no dockerd here")
    with dockerd(place) as path:
        yield path


def import_busybox(path: str) -> None:
    name, tag = IMAGE.split(":")
    said = call(path, f"/images/create?fromSrc=-&repo={name}&tag={tag}", busybox_tar())
    assert "error" not in said


def call(path: str, target: str, body: bytes | None = None, auth: object = None) -> str:
    """The text of the answer to a POST: the last of its lines says how it went."""
    connection = UnixConnection(path, 60)
    try:
        encoded = base64.urlsafe_b64encode(json.dumps(auth or {}).encode()).decode()
        headers = {"X-Registry-Auth": encoded}
        if body is not None:
            headers["Content-Type"] = "application/x-tar"
        connection.request("POST", target, body, headers)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def push(path: str, name: str, auth: object = None, *, tag: str = "1") -> str:
    """Of the busybox image under another name; the digest, or what was said instead."""
    call(path, f"/images/{IMAGE}/tag?repo={name}&tag={tag}")
    said = call(path, f"/images/{name}/push?tag={tag}", auth=auth)
    last = json.loads(said.splitlines()[-1])
    return last["aux"]["Digest"] if "aux" in last else str(last)


def pull(path: str, name: str, auth: object = None) -> str:
    said = call(path, f"/images/create?fromImage={name}&tag=1", auth=auth)
    return said.splitlines()[-1]


def run(path: str, image: str, *command: str) -> str:
    """What the command writes."""
    body = {"Image": image, "Cmd": command, "HostConfig": {"NetworkMode": "none"}}
    made = json.loads(_json(path, "POST", "/containers/create", body))
    assert "Id" in made, made
    _json(path, "POST", f"/containers/{made['Id']}/start")
    _json(path, "POST", f"/containers/{made['Id']}/wait")
    written = _json(path, "GET", f"/containers/{made['Id']}/logs?stdout=1&stderr=1")
    _json(path, "DELETE", f"/containers/{made['Id']}?force=1")
    return written[8:].decode()


def _json(path: str, method: str, target: str, body: object = None) -> bytes:
    connection = UnixConnection(path, 60)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, target, text, {"Content-Type": "application/json"})
        return connection.getresponse().read()
    finally:
        connection.close()


def test_docker_runs_what_we_push(engine: Daemon, docker: str) -> None:
    name = f"{PLAIN}/ours/box"
    digest = push(engine.socket, name)
    assert digest.startswith("sha256:")
    assert "Downloaded newer image" in pull(docker, name)
    assert run(docker, f"{name}@{digest}", "/bin/echo", "hello") == "hello\n"


def test_we_run_what_docker_pushes(engine: Daemon, docker: str) -> None:
    name = f"{PLAIN}/theirs/box"
    import_busybox(docker)
    digest = push(docker, name)
    assert digest.startswith("sha256:")
    assert "Downloaded newer image" in pull(engine.socket, name)
    assert run(engine.socket, f"{name}@{digest}", "/bin/echo", "hello") == "hello\n"
    # And back, as it came.
    assert push_as(engine.socket, f"{name}:1", f"{PLAIN}/theirs/copy") == digest


def push_as(path: str, image: str, name: str) -> str:
    call(path, f"/images/{image}/tag?repo={name}&tag=1")
    last = json.loads(call(path, f"/images/{name}/push?tag=1").splitlines()[-1])
    return str(last["aux"]["Digest"])


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="there is no skopeo here")
def test_skopeo_copies_what_we_push_and_we_what_it_copies(place: Host, engine: Daemon) -> None:
    name = f"{PLAIN}/ours/copied"
    digest = push(engine.socket, name)
    layout = f"oci:{place.folder}/layout:1"
    plain = ("--insecure-policy", "--tmpdir", str(place.folder))
    place.run("skopeo", *plain, "copy", "--src-tls-verify=false", f"docker://{name}:1", layout)
    place.run("skopeo", *plain, "copy", "--dest-tls-verify=false", layout, f"docker://{name}:2")
    said = call(engine.socket, f"/images/create?fromImage={name}&tag=2")
    assert digest in said
    assert run(engine.socket, f"{name}:2", "/bin/echo", "hello") == "hello\n"


def test_a_layer_of_another_repository_is_mounted(engine: Daemon) -> None:
    push(engine.socket, f"{PLAIN}/ours/first")
    call(engine.socket, f"/images/{IMAGE}/tag?repo={PLAIN}/ours/second&tag=1")
    said = call(engine.socket, f"/images/{PLAIN}/ours/second/push?tag=1")
    assert "Mounted from ours/" in said


def test_a_registry_with_tls_and_passwords(place: Host, engine: Daemon) -> None:
    name = f"{SECURE}/ours/box"
    path = engine.socket
    assert "tls: failed to verify certificate" in push(path, name, ANN)
    place.run("mkdir", "-p", f"/etc/docker/certs.d/{SECURE}")
    place.run("cp", f"{place.folder}/ca.crt", f"/etc/docker/certs.d/{SECURE}/")
    assert "remote error: tls: " in push(path, name, ANN)  # how exactly depends on its age
    place.run("cp", f"{place.folder}/client.crt", f"/etc/docker/certs.d/{SECURE}/client.cert")
    assert "missing key client.key for client certificate client.cert" in push(path, name, ANN)
    place.run("cp", f"{place.folder}/client.key", f"/etc/docker/certs.d/{SECURE}/client.key")
    assert "no basic auth credentials (log in first: docker login" in push(path, name)
    assert f"docker login {SECURE}" in push(path, name, {"username": USER, "password": "x"})
    digest = push(path, name, ANN)
    assert digest.startswith("sha256:")
    assert digest in call(path, f"/images/create?fromImage={name}&tag=1", auth=ANN)
    wrong = engine.call(
        "POST", "/auth", {"username": USER, "password": "x", "serveraddress": SECURE}
    )
    assert wrong == (500, {"message": f"login attempt to https://{SECURE}/v2/ failed with status: "
                           "401 Unauthorized"})  # fmt: skip
    right = engine.call("POST", "/auth", {**ANN, "serveraddress": SECURE})
    assert right == (200, {"IdentityToken": "", "Status": "Login Succeeded"})
    command = (*PYENGINE, "login", SECURE, "--username", USER, "--password-stdin")
    environment = {"DOCKER_HOST": engine.address, "DOCKER_CONFIG": str(place.folder / "login")}
    done = place.run(*command, env=environment, check=False, input="wrong\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert "401 Unauthorized" in done.stderr
    assert place.run(*command, env=environment, input=PASSWORD).stdout == "Login Succeeded\n"
    assert PASSWORD not in engine.log


def test_a_daemon_killed_in_a_push_starts_with_all_it_had(place: Host, engine: Daemon) -> None:
    """In the middle of one that compresses and one that sends."""
    before = engine.call("GET", "/images/json")
    connection = UnixConnection(engine.socket, 60)
    call(engine.socket, f"/images/{IMAGE}/tag?repo={PLAIN}/killed/box&tag=1")
    connection.request("POST", f"/images/{PLAIN}/killed/box/push?tag=1")
    connection.getresponse().read(10)
    engine.kill()
    connection.close()
    again = place.daemon()
    assert again.call("GET", "/images/json")[0] == before[0]
    images = again.data_root / "images"
    assert list((images / "tmp").iterdir()) == []
    assert push(again.socket, f"{PLAIN}/killed/box").startswith("sha256:")
    catalog = json.loads((images / "catalog.json").read_text())
    needed = {layer["blob"] for layer in catalog["layers"]}
    needed |= {image[key] for image in catalog["images"] for key in ("id", "manifest")}
    there = {f"sha256:{file.name}" for file in Path(images / "blobs/sha256").iterdir()}
    assert there == needed - {""}
