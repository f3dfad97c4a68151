"""Pure: the text of a container's /etc/hosts and /etc/resolv.conf."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.networks.model import DnsOptions, Endpoint

NAME_SERVER = "127.0.0.11"
HOST_GATEWAY = "host-gateway"
# What Docker gives to containers of the default bridge whose host only has a resolver at loopback.
PUBLIC_SERVERS = ("8.8.8.8", "8.8.4.4")

LOCAL_HOSTS = """\
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


@dataclass(frozen=True, slots=True)
class ResolverConfig:
    """What resolv.conf(5) says."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolver_config(text: str) -> ResolverConfig:
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        match words:
            case ["nameserver", server, *_] if _is_address(server):
                servers.append(server)
            case ["search" | "domain", *domains]:
                search = tuple(domains)  # the last one counts
            case ["options", *wanted]:
                options += wanted
    return ResolverConfig(tuple(servers), search, tuple(options))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def resolver_text(host: ResolverConfig, dns: DnsOptions, *, own_server: bool) -> str:
    """resolv.conf of a container; `own_server`: the engine's name service answers in it."""
    if own_server:
        servers: Sequence[str] = (NAME_SERVER,)
    else:
        servers = dns.servers or outside_servers(host.servers) or PUBLIC_SERVERS
    search = dns.search or host.search
    options = dns.options or host.options
    if own_server and not any(option.startswith("ndots:") for option in options):
        # Names of services have no dots: ask for them as they are.
        options = (*options, "ndots:0")
    lines = [f"nameserver {server}" for server in servers]
    if search and search != (".",):
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join([*lines, ""])


def outside_servers(servers: Iterable[str]) -> tuple[str, ...]:
    """Those that a container can reach: not at loopback."""
    return tuple(each for each in servers if not ipaddress.ip_address(each).is_loopback)


def hosts_text(
    hostname: str,
    endpoints: Sequence[Endpoint],
    *,
    extra_hosts: Sequence[tuple[str, str]] = (),
    domainname: str = "",
) -> str:
    """/etc/hosts; an address in `extra_hosts` may be `host-gateway`: this machine, as the
    container sees it."""
    lines = [LOCAL_HOSTS]
    gateway = next((each.gateway for each in endpoints if each.gateway), "")
    for name, address in extra_hosts:
        found = gateway if address == HOST_GATEWAY else address
        if found:
            lines.append(f"{found}\t{name}\n")
    names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
    for endpoint in endpoints:
        for own in (endpoint.ipv4_address, endpoint.ipv6_address):
            if own:
                lines.append(f"{own}\t{names}\n")
    return "".join(lines)
