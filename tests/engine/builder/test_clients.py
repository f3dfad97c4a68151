"""The docker command (without BuildKit) and docker-py build on this engine."""

from __future__ import annotations

import gc
import shutil
import warnings
from pathlib import Path

import docker
import docker.errors
import pytest

from tests.engine.builder.conftest import Builds
from tests.host import Host

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
TEXT = "FROM busybox:test\nARG A=none\nCOPY a /a\nRUN echo $A >> /a\nCMD cat /a\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "Dockerfile").write_text(TEXT)
    (tmp_path / "a").write_text("file\n")
    (tmp_path / "left-out").write_text("x" * 100_000)
    (tmp_path / ".dockerignore").write_text("left-out\n")
    return tmp_path


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command here")
def test_the_docker_command_builds(builds: Builds, builder_host: Host, project: Path) -> None:
    def build(*options: str, folder: Path = project, input: str | None = None):  # type: ignore[no-untyped-def]
        return builder_host.run(
            "docker", "-H", builds.daemon.address, "build", *options, str(folder),
            env={"DOCKER_BUILDKIT": "0"}, check=False, timeout=60, input=input,
        )  # fmt: skip

    done = build("-t", "by-cli", "--build-arg", "A=given", "--label", "l=1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Successfully tagged by-cli:latest" in done.stdout
    assert builds.run("by-cli") == "file\ngiven\n"
    assert builds.config("by-cli")["Labels"] == {"l": "1"}
    quiet = build("-q", "-t", "by-cli", "--build-arg", "A=given", "--label", "l=1")
    assert quiet.stdout.strip() == builds.image("by-cli")["Id"]
    piped = build("-t", "piped", "-f", "-", input="FROM busybox:test\nCOPY a /b\n")
    assert piped.returncode == 0, piped.stderr
    assert builds.run("piped", "cat", "/b") == "file\n"
    (project / "Bad").write_text("FROM busybox:test\nRUN exit 5\n")
    failed = build("-f", str(project / "Bad"))
    assert failed.returncode == 5
    assert failed.stderr.endswith("returned a non-zero code: 5\n")


def test_docker_py_builds(builds: Builds, project: Path) -> None:
    client = docker.DockerClient(base_url=builds.daemon.address, version="auto", timeout=60)
    try:
        image, lines = client.images.build(
            path=str(project), tag="by-docker-py", buildargs={"A": "py"}, rm=True
        )
        assert image.tags == ["by-docker-py:latest"]
        assert any("Successfully built" in line.get("stream", "") for line in lines)
        assert builds.run("by-docker-py") == "file\npy\n"
        (project / "Dockerfile").write_text("FROM busybox:test\nRUN exit 3\n")
        with pytest.raises(docker.errors.BuildError) as raised:
            client.images.build(path=str(project), rm=True)
        assert "returned a non-zero code: 3" in str(raised.value)
        (project / "Dockerfile").write_text("FROM busybox:test\nNONSENSE\n")
        with pytest.raises(docker.errors.APIError, match="unknown instruction: NONSENSE"):
            client.images.build(path=str(project), rm=True)
    finally:
        client.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
