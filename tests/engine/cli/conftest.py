"""The command as it is installed, on one engine for all tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host import Daemon, Host, host
from tests.terminal import Terminal

PYENGINE = str(Path(sys.executable).with_name("pyengine"))
REGISTRY = "127.0.0.1:5000"
Done = subprocess.CompletedProcess[str]
Pyengine = Callable[..., Done]


@pytest.fixture(scope="package")
def shared_host() -> Iterator[Host]:
    with host() as opened:
        yield opened


@pytest.fixture(scope="package")
def daemon(shared_host: Host) -> Daemon:
    return shared_host.daemon("engine", "--insecure-registry", REGISTRY)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def pyengine(shared_host: Host, daemon: Daemon, here: Path) -> Iterator[Pyengine]:
    """Runs in the folder `here`; `code` None: whatever it ends with."""

    def run(*arguments: str, code: int | None = 0, input: str | None = None) -> Done:
        done = shared_host.run(
            PYENGINE, *arguments, cwd=here, check=False, input=input, timeout=40,
            env={"DOCKER_HOST": daemon.address, "DOCKER_CONFIG": str(here / "docker"), "TZ": "UTC"},
        )  # fmt: skip
        assert code is None or done.returncode == code, (arguments, done)
        return done

    yield run
    daemon.remove_containers()


@pytest.fixture
def terminal(shared_host: Host, daemon: Daemon, here: Path) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(*arguments: str) -> Terminal:
        environment = {
            "DOCKER_HOST": daemon.address,
            "DOCKER_CONFIG": str(here / "docker"),
            "TERM": "xterm",
        }
        command = shared_host.command([PYENGINE, *arguments], cwd=here)
        opened.append(Terminal(command, shared_host.environment(environment)))
        return opened[-1]

    yield open_terminal
    for one in opened:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


@pytest.fixture(scope="package")
def registry(shared_host: Host) -> str:
    """One that asks who somebody is who comes to `private/…`; its address."""
    shared_host.serve("tests.engine.registry.server", "5000")
    return REGISTRY
