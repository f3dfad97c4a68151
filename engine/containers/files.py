"""Pure: the text of a container's /etc/hosts and /etc/resolv.conf."""

import ipaddress
from collections.abc import Iterable, Sequence

from engine.networks.model import DnsOptions, Endpoint

NAME_SERVER = "127.0.0.11"

_LOCAL = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def hosts_text(
    hostname: str,
    domainname: str,
    endpoints: Iterable[Endpoint],
    extra: Sequence[tuple[str, str]],
    *,
    gateway: str,
    base: str = "",
) -> str:
    """`extra`: (name, address); the address "host-gateway" stands for `gateway`. `base` is the
    host's file for a container in the host's network."""
    lines = [
        f"{gateway if address == 'host-gateway' else address}\t{name}\n" for name, address in extra
    ]
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    for endpoint in endpoints:
        lines += [
            f"{address}\t{names}\n"
            for address in (endpoint.ipv4_address, endpoint.ipv6_address)
            if address
        ]
    return (base or _LOCAL) + "".join(lines)


def served_resolv_conf(host_text: str, wanted: DnsOptions) -> str:
    """For a container whose names are resolved by its networks; the rest is forwarded."""
    _, search, options = parse_resolv_conf(host_text)
    return _resolv_conf(
        [NAME_SERVER], wanted.search or search, [*(wanted.options or options), "ndots:0"]
    )


def copied_resolv_conf(host_text: str, wanted: DnsOptions, *, shares_network: bool) -> str:
    """The host's own, without servers on its loopback, which a container can't reach."""
    servers, search, options = parse_resolv_conf(host_text)
    if not shares_network:
        servers = [server for server in servers if not _is_loopback(server)]
    return _resolv_conf(
        wanted.servers or servers, wanted.search or search, wanted.options or options
    )


def parse_resolv_conf(text: str) -> tuple[list[str], list[str], list[str]]:
    """(name servers, search domains, options)"""
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        match words[:1]:
            case ["nameserver"]:
                servers += words[1:2]
            case ["search" | "domain"]:
                search = words[1:]
            case ["options"]:
                options += words[1:]
    return servers, search, options


def _resolv_conf(servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    lines = [f"nameserver {server}\n" for server in servers]
    # "." alone switches the search list off.
    if domains := [domain for domain in search if domain != "."]:
        lines.append(f"search {' '.join(domains)}\n")
    if options:
        lines.append(f"options {' '.join(dict.fromkeys(options))}\n")
    return "".join(lines)


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True
