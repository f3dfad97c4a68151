"""The docker command itself, where it is installed, against this engine."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.host import Daemon, Host

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.peer,
    pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command here"),
]
Done = subprocess.CompletedProcess[str]
Docker = Callable[..., Done]
IMAGE = "rootfs"  # how the command may call rootfs:/


@pytest.fixture
def docker(engine: Daemon, shared_host: Host) -> Iterator[Docker]:
    def run(*arguments: str, input: str | None = None) -> Done:
        return shared_host.run(
            "docker", "-H", engine.address, *arguments, check=False, input=input, timeout=30
        )

    yield run
    engine.remove_containers()


def test_run_shows_the_output_and_exits_with_the_code(docker: Docker) -> None:
    done = docker("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_run_carries_input(docker: Docker) -> None:
    done = docker("run", "--rm", "-i", IMAGE, "wc", "-c", input="x" * 300_000)
    assert (done.returncode, done.stdout.strip()) == (0, "300000")


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        ("nosuch", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
        ("/nosuch/file", 127, "no such file or directory"),
    ],
)
def test_a_command_that_cannot_start_has_its_own_codes(
    docker: Docker, command: str, code: int, text: str
) -> None:
    done = docker("run", "--rm", IMAGE, command)
    assert done.returncode == code
    assert text in done.stderr
    assert (
        docker("ps", "-aq", "--filter", "status=created", "--filter", "name=^/[a-z]+_").stdout == ""
    )


def test_a_containers_life(docker: Docker) -> None:
    loop = ("sh", "-c", "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.1; done")
    run = docker("run", "-d", "--name", "loop", "-p", "18080:80", IMAGE, *loop)
    assert run.returncode == 0, run.stderr
    shown = docker("ps", "--format", "{{.Names}} {{.State}} {{.Ports}}").stdout
    assert shown.startswith("loop running 0.0.0.0:18080->80/tcp")
    done = docker("exec", "-i", "loop", "sh", "-c", "cat; exit 5", input="abc")
    assert (done.returncode, done.stdout) == (5, "abc")
    assert docker("exec", "loop", "nosuch").returncode == 127
    assert "line 0" in docker("logs", "loop").stdout
    assert "sleep" in docker("top", "loop").stdout
    assert "loop" in docker("stats", "--no-stream", "loop").stdout
    assert docker("port", "loop").stdout.startswith("80/tcp -> 0.0.0.0:18080")
    assert docker("pause", "loop").returncode == 0
    assert "(Paused)" in docker("ps").stdout
    assert docker("unpause", "loop").returncode == 0
    assert docker("rename", "loop", "ring").returncode == 0
    assert docker("rm", "ring").returncode == 1
    assert "stop the container before" in docker("rm", "ring").stderr
    assert docker("stop", "-t", "0", "ring").returncode == 0
    assert docker("start", "ring").returncode == 0
    assert docker("restart", "-t", "0", "ring").returncode == 0
    assert docker("kill", "ring").returncode == 0
    assert docker("wait", "ring").stdout == "137\n"
    assert docker("rm", "ring").returncode == 0
    assert docker("logs", "ring").stderr == "Error response from daemon: No such container: ring\n"


def test_files_are_copied_both_ways(docker: Docker, shared_host: Host) -> None:
    docker("create", "--name", "files", IMAGE, "cat", "/tmp/in")
    source = shared_host.folder / "in"
    source.write_text("hello\n")
    assert docker("cp", str(source), "files:/tmp/in").returncode == 0
    assert docker("start", "-a", "files").stdout == "hello\n"
    assert docker("cp", "files:/tmp/in", str(shared_host.folder / "out")).returncode == 0
    assert (shared_host.folder / "out").read_text() == "hello\n"


def test_names_resolve_on_a_network(docker: Docker) -> None:
    assert docker("network", "create", "clinet").returncode == 0
    docker("run", "-d", "--name", "server", "--network", "clinet", IMAGE, "sleep", "100")
    found = docker("run", "--rm", "--network", "clinet", IMAGE, "getent", "hosts", "server")
    assert found.stdout.split()[1:] == ["server"]
    shown = json.loads(docker("network", "inspect", "clinet").stdout)[0]
    (place,) = shown["Containers"].values()
    assert place["Name"] == "server"
    assert found.stdout.split()[0] == place["IPv4Address"].split("/")[0]
    assert "active endpoints" in docker("network", "rm", "clinet").stderr
    assert docker("rm", "-f", "server").returncode == 0
    assert docker("network", "rm", "clinet").returncode == 0


def test_volumes_keep_their_data(docker: Docker) -> None:
    docker("run", "--rm", "-v", "clivol:/data", IMAGE, "sh", "-c", "echo kept > /data/f")
    assert docker("run", "--rm", "-v", "clivol:/data", IMAGE, "cat", "/data/f").stdout == "kept\n"
    assert docker("volume", "rm", "clivol").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("pull", "127.0.0.1:1/alpine"), "dial tcp 127.0.0.1:1: connect: connection refused"),
        (("run", "127.0.0.1:1/alpine"), "dial tcp 127.0.0.1:1: connect: connection refused"),
        (("login", "-u", "a", "-p", "b", "127.0.0.1:1"), "connection refused"),
        (("search", "x"), "dial tcp: lookup index.docker.io: "),
        (("swarm", "init"), "works on one machine"),
        (("node", "ls"), "not a swarm manager"),
        (("inspect", "nosuch"), "No such object: nosuch"),
    ],
)
def test_what_is_not_offered_is_refused_in_words(
    docker: Docker, arguments: tuple[str, ...], text: str
) -> None:
    done = docker(*arguments)
    assert done.returncode != 0
    assert text.lower() in done.stderr.lower()
