"""One engine for all tests of this folder; each test makes and removes its own containers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.engine.api.dialogue import Dialogue
from tests.host import Daemon, Host, host

TCP_PORT = 2375
_numbers = itertools.count(1)

Make = Callable[..., str]


@pytest.fixture(scope="package")
def shared_host() -> Iterator[Host]:
    with host() as opened:
        yield opened


@pytest.fixture(scope="package")
def engine(shared_host: Host) -> Daemon:
    return shared_host.daemon("engine", "-H", f"tcp://127.0.0.1:{TCP_PORT}")


@pytest.fixture
def talk(engine: Daemon, shared_host: Host) -> Iterator[Callable[..., Dialogue]]:
    """Opens raw connections, and closes them at the end."""
    opened: list[Dialogue] = []

    def connect(*, port: int = 0) -> Dialogue:
        opened.append(shared_host.call(lambda: Dialogue(engine.socket, port=port)))
        return opened[-1]

    yield connect
    for dialogue in opened:
        dialogue.close()


@pytest.fixture
def make(engine: Daemon) -> Iterator[Make]:
    """Creates a container on the machine's own files; returns its name."""
    made: list[str] = []

    def create(*command: str, **config: object) -> str:
        name = f"test{next(_numbers)}"
        host_config = {"NetworkMode": "none", **config.pop("HostConfig", {})}  # type: ignore[dict-item]
        body = {"Image": "rootfs:/", "Cmd": list(command), "HostConfig": host_config, **config}
        status, answer = engine.call("POST", f"/containers/create?name={name}", body)
        assert status == 201, answer
        made.append(name)
        return name

    yield create
    for name in made:
        engine.call("DELETE", f"/containers/{name}?force=1&v=1")
