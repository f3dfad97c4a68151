"""Pure: the text of a container's /etc/hosts and /etc/resolv.conf."""

import ipaddress
from collections.abc import Iterable, Sequence

from engine.networks.model import DnsOptions, Endpoint
from engine.networks.resolver_config import parse_resolver_config

NAME_SERVER = "127.0.0.11"
# What Docker gives to containers of the default bridge whose host only has resolvers at loopback.
PUBLIC_SERVERS = ("8.8.8.8", "8.8.4.4")

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
    names = _names(hostname, domainname)
    for endpoint in endpoints:
        lines += [
            f"{address}\t{names}\n"
            for address in (endpoint.ipv4_address, endpoint.ipv6_address)
            if address
        ]
    return (base or _LOCAL) + "".join(lines)


def _names(hostname: str, domainname: str) -> str:
    """The full name first, then the short one: hosts(5)."""
    if domainname:
        return f"{hostname}.{domainname} {hostname}"
    short, dot, _ = hostname.partition(".")
    return f"{hostname} {short}" if short and dot else hostname


def served_resolv_conf(host_text: str, wanted: DnsOptions) -> str:
    """For a container whose names are resolved by its networks; the rest is forwarded."""
    host = parse_resolver_config(host_text)
    options = wanted.options or host.options
    if not any(option.startswith("ndots:") for option in options):
        # Names of services have no dots: they are asked for as they are.
        options = (*options, "ndots:0")
    return _resolv_conf((NAME_SERVER,), wanted.search or host.search, options)


def copied_resolv_conf(host_text: str, wanted: DnsOptions, *, shares_network: bool) -> str:
    """The host's own, without servers on its loopback, which a container can't reach."""
    host = parse_resolver_config(host_text)
    servers = host.servers if shares_network else _outside(host.servers) or PUBLIC_SERVERS
    return _resolv_conf(
        wanted.servers or servers, wanted.search or host.search, wanted.options or host.options
    )


def _resolv_conf(servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> str:
    lines = [f"nameserver {server}\n" for server in servers]
    # "." alone switches the search list off.
    if domains := [domain for domain in search if domain != "."]:
        lines.append(f"search {' '.join(domains)}\n")
    if options:
        lines.append(f"options {' '.join(dict.fromkeys(options))}\n")
    return "".join(lines)


def _outside(servers: Iterable[str]) -> tuple[str, ...]:
    return tuple(each for each in servers if not ipaddress.ip_address(each).is_loopback)
