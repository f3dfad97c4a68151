"""Links of Docker's first days, on the default bridge, which has no name service.

A container that links to another finds it in its /etc/hosts by the link's alias, and in variables
that tell its ports and its own variables. In networks of one's own a link is one more name there.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from engine.containers.checks import parse_link, parse_port
from engine.containers.container import Container
from engine.containers.model import Record
from engine.containers.parts import Parts
from engine.errors import Failure, NotFound

MODES = ("default", "bridge")


@dataclass(frozen=True, slots=True)
class Link:
    alias: str
    name: str  # of the linking container and the alias: "web/db"
    target: Record


def has_links(record: Record) -> bool:
    return bool(record.host.links) and record.host.network_mode in MODES


def links_of(parts: Parts, record: Record) -> tuple[Link, ...]:
    """Without those to containers that are gone: a link goes with its target."""
    found = []
    for alias, target in map(parse_link, record.host.links) if has_links(record) else ():
        with contextlib.suppress(NotFound):
            found.append(Link(alias, f"{record.name}/{alias}", parts.find(target).record))
    return tuple(found)


def demand_running(links: Iterable[Link]) -> None:
    """A link to what doesn't run has no address to tell."""
    for link in links:
        if not link.target.state.status.is_up:
            raise Failure(
                f"Cannot link to a non running container: /{link.target.name} AS /{link.name}"
            )


def hosts(links: Iterable[Link]) -> list[tuple[str, str]]:
    """Pure: (names, address) for /etc/hosts."""
    found = []
    for link in links:
        names = (link.alias, link.target.config.hostname, link.target.name)
        if address := address_of(link.target):
            found.append((" ".join(dict.fromkeys(names)), address))
    return found


def address_of(record: Record) -> str:
    """Pure: on the default bridge; "" while it has none there."""
    return next(
        (
            place.endpoint.ipv4_address
            for place in record.attachments
            if place.network in MODES and place.endpoint is not None
        ),
        "",
    )


def variables(links: Iterable[Link]) -> Iterator[tuple[str, str]]:
    """Pure."""
    for link in links:
        prefix = link.alias.replace("-", "_").upper()
        yield f"{prefix}_NAME", f"/{link.name}"
        address = address_of(link.target)
        exposed = map(parse_port, link.target.config.exposed_ports)
        ports = sorted(exposed, key=lambda port: (port[1] != "tcp", port))
        for index, (port, protocol) in enumerate(ports):
            whole = f"{protocol}://{address}:{port}"
            if index == 0:
                yield f"{prefix}_PORT", whole
            each = f"{prefix}_PORT_{port}_{protocol.upper()}"
            yield each, whole
            yield f"{each}_ADDR", address
            yield f"{each}_PORT", str(port)
            yield f"{each}_PROTO", protocol
        for entry in link.target.config.env:
            name, separator, value = entry.partition("=")
            if separator and name not in ("HOME", "PATH"):
                yield f"{prefix}_ENV_{name}", value


def link_names(records: Sequence[Record]) -> Mapping[str, tuple[str, ...]]:
    """Pure: of each container that others link to, the names that it has by that."""
    known = {key: record.id for record in records for key in (record.name, record.id)}
    found: dict[str, tuple[str, ...]] = {}
    for record in filter(has_links, records):
        for alias, target in map(parse_link, record.host.links):
            if (target_id := known.get(target)) is not None:
                found[target_id] = (*found.get(target_id, ()), f"/{record.name}/{alias}")
    return found


async def remove_link(parts: Parts, reference: str) -> None:
    """`reference` is "container/alias". What runs keeps what it knows until it is restarted."""
    name, _, alias = reference.strip("/").partition("/")
    if not alias:
        raise NotFound(f"Cannot get parent / for link {reference}")
    container: Container = parts.find(name)
    async with container.held():
        record = container.record
        kept = tuple(text for text in record.host.links if parse_link(text)[0] != alias)
        if len(kept) == len(record.host.links):
            raise NotFound(f"No such link: {reference}")
        container.record = replace(record, host=replace(record.host, links=kept))
        parts.save(container.record)
