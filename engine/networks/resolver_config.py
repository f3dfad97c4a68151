"""Pure: what resolv.conf(5) says."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResolverConfig:
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
