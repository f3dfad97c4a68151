"""Where a container's namespaces come from, and its places in networks: addresses and ports are
taken here, links come later (`networks`)."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.containers import checks, spec
from engine.containers.model import Attachment, HostConfig, Record
from engine.containers.parts import Parts
from engine.errors import Conflict, InvalidRequest, NotFound, about
from engine.networks import endpoint_options, placing
from engine.networks.model import (
    SHARED_PORTS,
    DnsOptions,
    Endpoint,
    EndpointRequest,
    Network,
    PortRequest,
)


@dataclass(frozen=True, slots=True)
class NetworkPlace:
    """Where a container's network namespace comes from."""

    path: str | None  # to join; "" = the host's, None = a new one
    files_of: Record | None = None  # the container whose hosts and resolv.conf it shares

    @property
    def is_own(self) -> bool:
        return self.path is None


def has_own_network(host: HostConfig) -> bool:
    return host.network_mode != "host" and not host.network_mode.startswith("container:")


def network_place(parts: Parts, record: Record) -> NetworkPlace:
    mode = record.host.network_mode
    if mode == "host":
        return NetworkPlace("")
    if not mode.startswith("container:"):
        return NetworkPlace(None)
    with about("joining network namespace of container"):
        other = parts.find(mode.removeprefix("container:")).record
    if not other.state.status.is_up:
        raise Conflict(
            "cannot join network namespace of a non running container: container "
            f"{other.name} is {other.state.status.value}"
        )
    if other.id == record.id:
        raise InvalidRequest("cannot join own network namespace")
    return NetworkPlace(f"/proc/{other.state.pid}/ns/net", other)


def pid_namespace(parts: Parts, record: Record) -> str | None:
    mode = record.host.pid_mode
    if mode == "host":
        return ""
    if not mode.startswith("container:"):
        return None
    other = _running(parts, mode.removeprefix("container:"), "PID")
    return f"/proc/{other.state.pid}/ns/pid"


def ipc_pid_of(parts: Parts, record: Record) -> int:
    """Whose IPC namespace it shares; 0 for one of its own."""
    mode = record.host.ipc_mode
    if not mode.startswith("container:"):
        return 0
    other = _running(parts, mode.removeprefix("container:"), "IPC")
    if other.host.ipc_mode != "shareable":
        raise Conflict(
            f"cannot join IPC of container {other.id}: non-shareable IPC (hint: use "
            "IpcMode:shareable for the donor container)"
        )
    return other.state.pid


def user_pid(parts: Parts, record: Record) -> int:
    """Whose user namespace it shares, where users are remapped: only that one's root has its
    capabilities over the namespace that the two have in common. 0 for one of its own."""
    ids, host = spec.id_maps(record.host, parts.machine), record.host
    for mode in (host.network_mode, host.pid_mode, host.ipc_mode):
        if ids is not None and mode.startswith("container:"):
            other = parts.find(mode.removeprefix("container:"))
            if other.shim is not None and other.shim.ids == ids:
                return other.record.state.pid
    return 0


def _running(parts: Parts, reference: str, what: str) -> Record:
    other = parts.find(reference).record
    if not other.state.status.is_up:
        raise Conflict(f"failed to join {what} namespace: container {other.id} is not running")
    return other


def allocate(parts: Parts, record: Record, *, is_own: bool) -> Record:
    """The record of this boot, with its places in the networks."""
    with about("failed to set up container networking"):
        attachments = tuple(attach(parts, record, wanted) for wanted in record.attachments)
    record = replace(record, attachments=attachments, ports=(), boot_id=parts.boot_id)
    wanted_ports = tuple(port_requests(record)) if is_own else ()
    endpoints = endpoints_of(record)
    if not wanted_ports or not any(endpoint.ifname for endpoint in endpoints):
        return record
    where = f"on endpoint {record.name} ({endpoints[0].endpoint_id})"
    with about(
        "failed to set up container networking: driver failed programming external"
        f" connectivity {where}"
    ):
        ports = parts.networks.reserve_ports(record.id, wanted_ports, endpoints)
    return replace(record, ports=ports)


def attach(parts: Parts, record: Record, wanted: Attachment) -> Attachment:
    """The attachment with a place taken in its network."""
    network = network_of(parts, wanted)
    settings = wanted.settings
    links = (*settings.links, *(record.host.links if not network.predefined else ()))
    # The other may come later: its name is looked up in the network each time.
    endpoint = parts.networks.allocate(
        network,
        EndpointRequest(
            container_id=record.id,
            container_name=record.name,
            hostname=record.config.hostname,
            aliases=settings.aliases,
            ipv4_address=settings.ipv4_address,
            ipv6_address=settings.ipv6_address,
            mac_address=settings.mac_address or record.config.mac_address,
            gateway_priority=settings.gateway_priority,
            ifname=endpoint_options.interface_name(settings.driver_opts),
            sysctls=endpoint_options.sysctls(settings.driver_opts),
            link_local=settings.link_local_ips,
            before=wanted.addresses,
            links={alias: _name_of(parts, name) for alias, name in map(checks.parse_link, links)},
        ),
    )
    return replace(
        wanted,
        network=network.name,
        network_id=network.id,
        endpoint=endpoint,
        dns_names=endpoint.dns_names,
    )


def dns_names(record: Record, attachment: Attachment) -> tuple[str, ...]:
    """What neighbours in that network know the container by."""
    aliases, hostname = attachment.settings.aliases, record.config.hostname
    return placing.dns_names(record.id, record.name, aliases=aliases, hostname=hostname)


def _name_of(parts: Parts, reference: str) -> str:
    try:
        return parts.find(reference).record.name
    except NotFound:
        return reference


def network_of(parts: Parts, wanted: Attachment) -> Network:
    """A network that was removed and made anew under its name is followed, as Docker does."""
    if wanted.network_id:
        with contextlib.suppress(NotFound):
            return parts.networks.get(wanted.network_id)
    return parts.networks.get(wanted.network)


def port_requests(record: Record) -> Iterator[PortRequest]:
    bound = set()
    for text, published in record.host.port_bindings.items():
        port, protocol = checks.parse_port(text)
        bound.add((port, protocol))
        for wish in published:
            low, _, high = wish.host_port.partition("-")
            yield PortRequest(
                port,
                protocol,
                host_ip=wish.host_ip.strip("[]"),
                host_port=int(low or 0),
                host_port_end=int(high or 0),
                shared=record.config.labels.get(SHARED_PORTS) == "true",
            )
    if record.host.publish_all_ports:
        for text in record.config.exposed_ports:
            if (exposed := checks.parse_port(text)) not in bound:
                yield PortRequest(*exposed)


def endpoints_of(record: Record) -> tuple[Endpoint, ...]:
    found = (attachment.endpoint for attachment in record.attachments)
    return tuple(endpoint for endpoint in found if endpoint is not None)


def serves_names(parts: Parts, record: Record) -> bool:
    return any(
        parts.networks.get(attachment.network_id).serves_names
        for attachment in record.attachments
        if attachment.network_id
    )


def dns_options(parts: Parts, host: HostConfig) -> DnsOptions:
    """The container's own, else the daemon's."""
    usual = parts.defaults
    return DnsOptions(
        host.dns or usual.dns,
        host.dns_options or usual.dns_options,
        host.dns_search or usual.dns_search,
    )
