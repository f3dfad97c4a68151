"""A whole engine without its API, in a network namespace of its own, in the test's event loop."""

import ctypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.containers.model import ContainerConfig, CreateRequest, HostConfig, LogQuery, Record
from engine.containers.operations import Containers
from engine.events import Event, EventLog, Subscription
from engine.images.operations import Images
from engine.networks.operations import Networks
from engine.runtime.launch import Spawner
from engine.volumes.operations import Volumes
from tests.engine.networks.conftest import bring_up_loopback
from tests.host import CLONE_NEWNET

LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Engine:
    folder: Path
    events: EventLog = field(default_factory=EventLog)
    spawner: Spawner = field(init=False)
    images: Images = field(init=False)
    volumes: Volumes = field(init=False)
    networks: Networks = field(init=False)
    containers: Containers = field(init=False)

    async def open(self) -> None:
        data, execs = self.folder / "data", self.folder / "exec"
        for folder in (data, execs):
            folder.mkdir(mode=0o711, exist_ok=True)
        self.events = EventLog()
        self.spawner = await Spawner.start()
        self.volumes = await Volumes.open(data / "volumes")
        self.images = await Images.open(data / "images", private=(data, execs))
        self.networks = await Networks.open(data / "networks", name="c0ffee00")
        self.containers = await Containers.open(
            data,
            execs,
            spawner=self.spawner,
            images=self.images,
            volumes=self.volumes,
            networks=self.networks,
            events=self.events,
        )

    async def stop(self) -> None:
        """Like the end of a daemon: containers go on."""
        await self.containers.close()
        await self.images.close(containers_left=True)
        await self.networks.close()
        await self.spawner.close()

    async def close(self) -> None:
        for record in self.containers.list():
            await self.containers.remove(record.id, force=True, volumes=True)
        await self.containers.close()
        await self.images.close(containers_left=False)
        await self.networks.retire()
        await self.networks.close()
        await self.spawner.close()

    async def create(
        self, *command: str, name: str = "", host: HostConfig | None = None, **config: object
    ) -> str:
        wanted = ContainerConfig(image="rootfs:/", cmd=command or None, **config)  # type: ignore[arg-type]
        request = CreateRequest(wanted, host or HostConfig(), name=name)
        return (await self.containers.create(request)).id

    async def run(
        self, *command: str, name: str = "", host: HostConfig | None = None, **config: object
    ) -> str:
        identifier = await self.create(*command, name=name, host=host, **config)
        await self.containers.start(identifier)
        return identifier

    async def finish(
        self, *command: str, host: HostConfig | None = None, **config: object
    ) -> tuple[int, str]:
        """(exit code, output) of a container that runs to its end."""
        identifier = await self.create(*command, host=host, **config)
        ended = self.containers.wait(identifier, condition="next-exit")
        await self.containers.start(identifier)
        code = (await ended).status_code
        return code, await self.output(identifier)

    async def output(self, reference: str, query: LogQuery | None = None) -> str:
        return unframed(
            [piece async for piece in self.containers.logs(reference, query or LogQuery())]
        )

    def get(self, reference: str) -> Record:
        return self.containers.get(reference)


def unframed(pieces: list[bytes]) -> str:
    text, rest = b"", b"".join(pieces)
    while rest:
        length = int.from_bytes(rest[4:8], "big")
        text += rest[8 : 8 + length]
        rest = rest[8 + length :]
    return text.decode()


async def event(subscription: Subscription, action: str) -> Event:
    """The next event with this action."""
    async for found in subscription:
        if found.action == action:
            return found
    raise AssertionError(f"no event {action}")


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    folder = Path(tempfile.mkdtemp(prefix="pyc-containers-", dir="/var/tmp"))
    assert LIBC.unshare(CLONE_NEWNET) == 0
    engine = Engine(folder)
    try:
        bring_up_loopback()
        await engine.open()
        yield engine
        await engine.close()
        assert list((folder / "data/containers").iterdir()) == []
        assert list((folder / "exec/containers").iterdir()) == []
    finally:
        assert LIBC.setns(home, CLONE_NEWNET) == 0
        os.close(home)
        shutil.rmtree(folder)
