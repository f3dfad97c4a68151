"""A container's own /etc/hosts, /etc/hostname and /etc/resolv.conf, on disk; their texts are made
in `files`."""

import os
import socket
import stat

from engine.containers import checks, files, legacy_links, places
from engine.containers.model import Record
from engine.containers.parts import Parts
from engine.networks.endpoint import gateway_endpoint
from engine.records import naming


def write_files(parts: Parts, record: Record, place: places.NetworkPlace) -> None:
    """In place, never by rename: a running container has these very files mounted."""
    if place.files_of is not None:
        return
    wanted = places.dns_options(parts, record.host)
    shares_network = place.path == ""
    host_resolv = _text("/etc/resolv.conf")
    if places.serves_names(parts, record):
        resolv = files.served_resolv_conf(host_resolv, wanted)
    else:
        resolv = files.copied_resolv_conf(host_resolv, wanted, shares_network=shares_network)
    extra = [checks.parse_extra_host(entry) for entry in record.host.extra_hosts]
    extra += legacy_links.hosts(legacy_links.links_of(parts, record))
    hosts = files.hosts_text(
        record.config.hostname,
        record.config.domainname,
        places.endpoints_of(record),
        extra,
        gateway=_host_gateway(parts, record, shares_network=shares_network),
        base=_text("/etc/hosts") if shares_network else "",
    )
    for path, text in (
        (record.resolv_conf_path, resolv),
        (record.hosts_path, hosts),
        (record.hostname_path, f"{record.config.hostname}\n"),
    ):
        _write_in_place(path, text)


def _write_in_place(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        # Mostly it is new, and each change that is none would be one of the disk's journal.
        found = os.fstat(descriptor)
        if stat.S_IMODE(found.st_mode) != 0o644:
            os.fchmod(descriptor, 0o644)
        if found.st_size:
            os.ftruncate(descriptor, 0)
        left = memoryview(text.encode(errors="replace"))
        with naming(path):
            while left:
                left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _text(path: str) -> str:
    try:
        with open(path, "rb", buffering=0) as stream:
            return stream.readall().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _host_gateway(parts: Parts, record: Record, *, shares_network: bool) -> str:
    """What "host-gateway" stands for: this machine, at the container's own end of a bridge. Docker
    takes the default bridge's address, which is nowhere here while no container is on that."""
    if shares_network:
        return "127.0.0.1"
    bridged = [
        endpoint
        for endpoint in places.endpoints_of(record)
        if parts.networks.get(endpoint.network_id).driver == "bridge"
    ]
    for version in (4, 6):
        if (endpoint := gateway_endpoint(bridged, version)) is not None:
            return endpoint.way_out(version)
    pools = parts.networks.get("bridge").pools
    return pools[0].gateway if pools else ""


def host_name() -> str:
    return socket.gethostname()
