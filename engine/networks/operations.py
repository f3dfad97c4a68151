"""Networks: create and remove them, and give containers their place. Owned by the event loop."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from engine.networks.model import (
    DnsOptions,
    Endpoint,
    EndpointRequest,
    Network,
    NetworkSpec,
    PortBinding,
    PortRequest,
)


class NetworkSockets(Protocol):
    """Descriptors of one container's network namespace; `join` and `adopt` own them from then on
    (they close namespace, route and netfilter, and serve on the DNS sockets)."""

    @property
    def namespace(self) -> int: ...
    @property
    def route(self) -> int: ...
    @property
    def netfilter(self) -> int: ...
    @property
    def dns_udp(self) -> int: ...
    @property
    def dns_tcp(self) -> int: ...


class Networks:
    @classmethod
    async def open(cls, root: Path, *, name: str) -> "Networks":
        """Reads the stored networks and puts their bridges and rules back where they are missing.

        `name` is this daemon's tag (8 hex digits): bridges and the table carry it. Call `settle`
        once every living container has been given to `adopt`.
        """
        ...

    async def create(self, spec: NetworkSpec) -> Network: ...
    def get(self, reference: str) -> Network:
        """By id, name, or unique id prefix. Raises NotFound."""
        ...

    def list(self) -> tuple[Network, ...]: ...
    def endpoints(self, network_id: str) -> tuple[Endpoint, ...]:
        """Places taken in a network now: what its inspect shows under Containers."""
        ...

    async def remove(self, reference: str) -> Network:
        """Raises Forbidden for a predefined network or one with endpoints."""
        ...

    async def prune(self, wanted: Callable[[Network], bool]) -> tuple[Network, ...]:
        """Removes the unused networks of which `wanted` is true; returns them."""
        ...

    def allocate(self, network: Network, request: EndpointRequest) -> Endpoint:
        """A place in `network`, held until `leave` or `disconnect`."""
        ...

    def reserve_ports(
        self, container_id: str, wanted: Sequence[PortRequest], *, network: Network | None = None
    ) -> tuple[PortBinding, ...]:
        """All of `wanted` or none; held until `leave`. `network` gives the default host address."""
        ...

    async def join(
        self,
        container_id: str,
        endpoints: Sequence[Endpoint],
        sockets: NetworkSockets,
        ports: Sequence[PortBinding],
        *,
        dns: DnsOptions = DnsOptions(),  # noqa: B008
    ) -> None: ...

    async def adopt(
        self,
        container_id: str,
        endpoints: Sequence[Endpoint],
        sockets: NetworkSockets,
        ports: Sequence[PortBinding],
        *,
        dns: DnsOptions = DnsOptions(),  # noqa: B008
    ) -> None:
        """After a restart of the daemon: takes the container's place over, puts back what is
        missing."""

    async def settle(self) -> None:
        """Everything that lives has been adopted: published ports nobody owns go."""

    async def rename(self, container_id: str, name: str) -> tuple[Endpoint, ...]:
        """The container's endpoints under its new name; names resolve to it at once."""
        ...

    async def connect(
        self, container_id: str, endpoint: Endpoint, sockets: NetworkSockets
    ) -> None: ...
    async def disconnect(
        self, container_id: str, network_id: str, sockets: NetworkSockets
    ) -> None: ...
    async def leave(self, container_id: str) -> None:
        """The container is down: its addresses, ports and names are free. Idempotent."""

    async def close(self) -> None:
        """The daemon stops; containers live on with addresses and published ports."""

    async def retire(self) -> None:
        """No container is left: bridges, the table and sysctls of ours go."""
