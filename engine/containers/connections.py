"""A container joins and leaves networks, also while it runs."""

import asyncio
from dataclasses import replace

from engine.containers import checks, create, network_files, places, supervise
from engine.containers.container import Container
from engine.containers.model import Attachment, EndpointSettings
from engine.containers.parts import Parts
from engine.errors import Failure, InvalidRequest, NotFound
from engine.networks.model import Network


async def connect(
    parts: Parts, container: Container, network_id: str, settings: EndpointSettings
) -> None:
    network = parts.networks.get(network_id)
    parts.networks.check_wishes(network_id, checks.wished_addresses(settings), settings.aliases)
    async with container.held():
        record = container.record
        checks.check_connect(record, network)
        if any(_is_in(parts, one, network) for one in record.attachments):
            if container.shim is not None:
                raise create.already_connected(record.name, network.name)
            return  # one at rest keeps its place as it is, as in Docker
        added = Attachment(network.name, settings, network.id)
        added = replace(added, dns_names=places.dns_names(record, added))
        if container.shim is not None:
            added = places.attach(parts, record, added)
            assert added.endpoint is not None
            # Ahead of the kernel: after a crash from here on, adoption joins it.
            parts.save(replace(record, attachments=(*record.attachments, added)))
            try:
                sockets = await container.shim.network_sockets(dns=network.serves_names)
                await parts.networks.connect(record.id, added.endpoint, sockets)
            except BaseException:
                parts.save(record)
                await _take_back(parts, container, network.id)
                raise
        container.record = replace(record, attachments=(*record.attachments, added))
        await _store_networks(parts, container)
    # One at rest joins when it is started, and that is told then.
    if container.shim is not None:
        supervise.network_event(parts, container.record, "connect", network.id)


async def _take_back(parts: Parts, container: Container, network_id: str) -> None:
    if container.shim is not None:
        sockets = await container.shim.network_sockets()
        await parts.networks.disconnect(container.id, network_id, sockets)


async def _store_networks(parts: Parts, container: Container) -> None:
    record = container.record
    if container.shim is not None:
        network_files.write_files(parts, record, places.network_place(parts, record))
    parts.save(record)
    await asyncio.to_thread(parts.store.commit, record)


async def disconnect(parts: Parts, container: Container, network_id: str) -> None:
    network = parts.networks.get(network_id)
    async with container.held():
        record = container.record
        if record.host.network_mode == "host":
            raise InvalidRequest(
                "cannot disconnect container from host network - container was created in host"
                " network mode"
            )
        kept = tuple(one for one in record.attachments if not _is_in(parts, one, network))
        if len(kept) == len(record.attachments):
            raise Failure(f"container {record.id} is not connected to network {network.name}")
        if container.shim is not None:
            sockets = await container.shim.network_sockets()
            await parts.networks.disconnect(record.id, network.id, sockets)
        container.record = replace(record, attachments=kept)
        await _store_networks(parts, container)
    supervise.network_event(parts, container.record, "disconnect", network.id)


def _is_in(parts: Parts, attachment: Attachment, network: Network) -> bool:
    """As its start would find it, also where the network was made anew meanwhile."""
    try:
        return places.network_of(parts, attachment).id == network.id
    except NotFound:
        return False
