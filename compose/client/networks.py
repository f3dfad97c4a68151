"""/networks: one method an API call."""

from __future__ import annotations

from collections.abc import Mapping

from compose.client import fields
from compose.client.containers import Filters, encode_filters
from compose.client.transport import Transport
from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class NetworkDetails:
    id: str
    name: str
    driver: str
    internal: bool
    labels: Mapping[str, str]
    subnets: tuple[str, ...]


class Networks:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, *, filters: Filters | None = None) -> tuple[NetworkDetails, ...]:
        answer = await self._transport.json(
            "GET", "/networks", query={"filters": encode_filters(filters)}
        )
        rows = fields.items(answer, "the list of networks")
        return tuple(_details(fields.mapping(row, "a network")) for row in rows)

    async def inspect(self, network: str) -> NetworkDetails:
        answer = await self._transport.json("GET", f"/networks/{network}")
        return _details(fields.mapping(answer, "a network"))

    async def create(self, body: Mapping[str, object]) -> str:
        """The id."""
        answer = await self._transport.json("POST", "/networks/create", body=body)
        return fields.text(fields.mapping(answer, "the created network"), "Id")

    async def remove(self, network: str) -> None:
        await self._transport.json("DELETE", f"/networks/{network}")

    async def connect(
        self, network: str, container: str, endpoint: Mapping[str, object] | None = None
    ) -> None:
        body = {"Container": container, "EndpointConfig": endpoint or {}}
        await self._transport.json("POST", f"/networks/{network}/connect", body=body)

    async def disconnect(self, network: str, container: str, *, force: bool = False) -> None:
        body = {"Container": container, "Force": force}
        await self._transport.json("POST", f"/networks/{network}/disconnect", body=body)


def _details(row: Mapping[str, object]) -> NetworkDetails:
    return NetworkDetails(
        id=fields.text(row, "Id"),
        name=fields.text(row, "Name"),
        driver=fields.text(row, "Driver", ""),
        internal=fields.flag(row, "Internal"),
        labels=fields.text_map(row, "Labels"),
        subnets=tuple(
            fields.text(pool, "Subnet", "")
            for pool in fields.children(fields.child(row, "IPAM"), "Config")
        ),
    )
