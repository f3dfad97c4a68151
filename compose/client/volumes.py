"""/volumes: one method an API call."""

from __future__ import annotations

from collections.abc import Mapping

from compose.client import fields
from compose.client.containers import Filters, encode_filters
from compose.client.transport import Transport
from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class VolumeDetails:
    name: str
    driver: str
    mountpoint: str
    labels: Mapping[str, str]
    options: Mapping[str, str]


class Volumes:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def list(self, *, filters: Filters | None = None) -> tuple[VolumeDetails, ...]:
        answer = await self._transport.json(
            "GET", "/volumes", query={"filters": encode_filters(filters)}
        )
        rows = fields.children(fields.mapping(answer, "the list of volumes"), "Volumes")
        return tuple(_details(row) for row in rows)

    async def inspect(self, name: str) -> VolumeDetails:
        answer = await self._transport.json("GET", f"/volumes/{name}")
        return _details(fields.mapping(answer, "a volume"))

    async def create(self, body: Mapping[str, object]) -> VolumeDetails:
        """Gives back the one that exists if there is one of that name."""
        answer = await self._transport.json("POST", "/volumes/create", body=body)
        return _details(fields.mapping(answer, "the created volume"))

    async def remove(self, name: str, *, force: bool = False) -> None:
        await self._transport.json("DELETE", f"/volumes/{name}", query={"force": force})


def _details(row: Mapping[str, object]) -> VolumeDetails:
    return VolumeDetails(
        name=fields.text(row, "Name"),
        driver=fields.text(row, "Driver", "local"),
        mountpoint=fields.text(row, "Mountpoint", ""),
        labels=fields.text_map(row, "Labels"),
        options=fields.text_map(row, "Options"),
    )
