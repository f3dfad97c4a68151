"""An engine as the rest of pycompose sees it: one object, its resources as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from compose.client import fields
from compose.client.address import Address, UnixAddress
from compose.client.containers import Containers
from compose.client.credentials import CredentialStore
from compose.client.events import Events
from compose.client.images import Images
from compose.client.networks import Networks
from compose.client.proxies import ProxyVariables
from compose.client.revisions import OwnRevisions, Revisions, VolumeRevisions
from compose.client.transport import Transport
from compose.client.volumes import Volumes
from compose.errors import Rehearsed

AT_ONCE = 32


class Engine:
    """Made by `connect`; holds no open connection between calls, so there is nothing to close.
    `transport` is for calls whose answers are shown as they come."""

    def __init__(self, transport: Transport, credentials: CredentialStore) -> None:
        self.transport = transport
        self.address = transport.address
        self.credentials = credentials
        self._id = ""
        self.at_once = AT_ONCE  # steps of a plan that it is asked for
        self.proxies = ProxyVariables(credentials.environment, str(transport.address))
        self.containers = Containers(transport, self.proxies)
        self.images = Images(transport, credentials, self.proxies)
        self.networks = Networks(transport)
        self.volumes = Volumes(transport)
        self.events = Events(transport)
        self.revisions: Revisions = (
            OwnRevisions(transport) if self.is_ours else VolumeRevisions(self.volumes)
        )

    @property
    def api_version(self) -> tuple[int, int]:
        return self.transport.version or (0, 0)

    @property
    def is_ours(self) -> bool:
        """Whether it is pycompose's own, which runs on the machine of its clients."""
        return self.transport.server.startswith("pyengine/")

    @property
    def is_docker(self) -> bool:
        """Whether it is Docker's own: Podman's answers to the same calls, but, in its version 4,
        not to an update of a container."""
        return self.transport.server.startswith("Docker/")

    @property
    def own_socket(self) -> str:
        """The UNIX socket of pycompose's own engine; "": it is another's, or elsewhere."""
        return self.address.path if self.is_ours and isinstance(self.address, UnixAddress) else ""

    @property
    def rehearses(self) -> bool:
        """Whether it is only asked, and nothing changed: what would change something raises
        Rehearsed instead."""
        return self.transport.rehearses

    def would(self, what: str) -> None:
        """In a rehearsal the command ends here: raises Rehearsed with what it would do now."""
        if self.rehearses:
            raise Rehearsed(what)

    def rehearse(self) -> None:
        self.transport.rehearses = True

    async def version(self) -> Mapping[str, object]:
        return fields.mapping(await self.transport.json("GET", "/version"), "the version")

    async def id(self) -> str:
        """Random, and the engine's own for as long as it lives: it is asked for once."""
        if not self._id:
            self._id = fields.text(await self.info(), "ID", "")
        return self._id

    async def info(self) -> Mapping[str, object]:
        return fields.mapping(await self.transport.json("GET", "/info"), "the info")


async def connect(
    address: Address, environment: Mapping[str, str] = MappingProxyType({})
) -> Engine:
    """Raises Unreachable or Incompatible, each with what to do. `environment` says whose
    credentials of registries are used; an empty one means nobody's."""
    transport = Transport(address, environment)
    await transport.negotiate()
    return Engine(transport, CredentialStore(environment))
