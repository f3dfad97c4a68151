"""docker-py, an independent client, on every kind of object."""

from __future__ import annotations

import gc
import io
import tarfile
import warnings
from collections.abc import Iterator

import docker
import docker.errors
import pytest

from tests.host import Daemon

# docker-py leaves the sockets of its raw streams to the collector.
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client(engine: Daemon) -> Iterator[docker.DockerClient]:
    opened = docker.DockerClient(base_url=engine.address, version="auto", timeout=20)
    yield opened
    opened.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_it_negotiates_and_asks_who_is_there(client: docker.DockerClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.51"
    assert client.info()["Swarm"]["LocalNodeState"] == "inactive"
    client.swarm.leave(force=True)  # raises on any other status than 503


def test_a_run_returns_the_output_and_raises_for_a_failure(client: docker.DockerClient) -> None:
    assert client.containers.run("rootfs:/", "echo hi", remove=True) == b"hi\n"
    with pytest.raises(docker.errors.ContainerError) as raised:
        client.containers.run("rootfs:/", ["sh", "-c", "echo bad >&2; exit 3"], remove=True)
    assert raised.value.exit_status == 3
    with pytest.raises(docker.errors.ImageNotFound):
        client.api.create_container("nosuch:latest", "true")


def test_a_containers_life(client: docker.DockerClient) -> None:
    container = client.containers.run(
        "rootfs:/", ["sh", "-c", "echo ready; trap 'exit 5' TERM; while :; do sleep 0.05; done"],
        detach=True, name="life", labels={"a": "b"}, environment={"X": "1"}, mem_limit="64m",
    )  # fmt: skip
    try:
        next(container.logs(stream=True, follow=True))
        container.reload()
        assert container.status == "running"
        assert container.attrs["HostConfig"]["Memory"] == 64 << 20
        assert [one.name for one in client.containers.list(filters={"label": "a=b"})] == ["life"]
        code, output = container.exec_run(["sh", "-c", "echo $X; exit 4"])
        assert (code, output) == (4, b"1\n")
        out, err = container.exec_run(["sh", "-c", "echo a; echo b >&2"], demux=True).output
        assert (out, err) == (b"a\n", b"b\n")
        assert "sh" in str(container.top()["Processes"])
        container.pause()
        container.reload()
        assert container.status == "paused"
        container.unpause()
        container.rename("life2")
        container.update(mem_limit="96m", memswap_limit="192m")
        assert container.stats(stream=False)["name"] == "/life2"
        container.put_archive("/tmp", _tar("f", b"content"))
        stream, found = container.get_archive("/tmp/f")
        assert found["size"] == 7
        assert b"content" in b"".join(stream)
        assert any(change["Path"] == "/tmp/f" for change in container.diff())
        container.stop(timeout=5)
        assert container.wait()["StatusCode"] == 5
        container.restart(timeout=1)
        container.kill()
    finally:
        container.remove(force=True)


def test_a_socket_carries_input(client: docker.DockerClient) -> None:
    container = client.containers.create("rootfs:/", "cat", stdin_open=True)
    try:
        opened = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        container.start()
        opened._sock.sendall(b"hello")
        assert opened._sock.recv(100).endswith(b"hello")
        opened.close()
    finally:
        container.remove(force=True)


def test_networks_and_volumes(client: docker.DockerClient) -> None:
    network = client.networks.create("py net", labels={"a": "b"})
    volume = client.volumes.create("pyvol", labels={"a": "b"})
    container = client.containers.create(
        "rootfs:/", "sleep 100", network="py net", volumes={"pyvol": {"bind": "/data"}}
    )
    try:
        assert [one.name for one in client.networks.list(names=["py net"])] == ["py net"]
        assert client.volumes.get("pyvol").attrs["Labels"] == {"a": "b"}
        container.start()
        network.reload()
        assert [one.id for one in network.containers] == [container.id]
        with pytest.raises(docker.errors.APIError, match="has active endpoints"):
            network.remove()
        with pytest.raises(docker.errors.APIError, match="volume is in use"):
            volume.remove()
        network.disconnect(container)
        network.connect(container, aliases=["db"])
        container.reload()
        assert "db" in container.attrs["NetworkSettings"]["Networks"]["py net"]["DNSNames"]
    finally:
        container.remove(force=True)
        network.remove()
        volume.remove()
    assert client.networks.prune() == {"NetworksDeleted": None}
    assert client.volumes.prune()["VolumesDeleted"] == []


def test_an_image_comes_in_as_a_tar_and_goes_out_as_one(client: docker.DockerClient) -> None:
    client.api.import_image_from_data(_tar("hello", b"x"), repository="made", tag="1")
    image = client.images.get("made:1")
    try:
        assert image.tags == ["made:1"]
        assert image.attrs["RootFS"]["Type"] == "layers"
        assert image.tag("localhost:5000/made/again", "2")
        assert len(image.history()) == 1
        saved = b"".join(image.save(named=True))
        assert {one.id for one in client.images.list("made")} == {image.id}
    finally:
        client.images.remove(image.id, force=True)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get("made:1")
    (loaded,) = client.images.load(saved)
    assert loaded.id == image.id
    client.images.remove(loaded.id, force=True)


def test_a_pull_says_why_it_cannot_be(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.APIError, match="connection refused"):
        client.images.pull("127.0.0.1:1/nosuch", tag="1")


def test_rubbish_is_no_image(client: docker.DockerClient) -> None:
    with pytest.raises(docker.errors.ImageLoadError):
        client.images.load(b"rubbish" * 1000)
    assert client.api.ping()


def test_the_size_on_disk_is_told(client: docker.DockerClient) -> None:
    assert set(client.df()) >= {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}


def _tar(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
