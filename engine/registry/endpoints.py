"""Pure: which hosts a repository is asked for at, and where plain HTTP is allowed."""

import ipaddress
from dataclasses import dataclass

from engine.errors import InvalidRequest
from engine.oci.reference import DEFAULT_DOMAIN, is_address
from engine.settings import Registries

HUB = "registry-1.docker.io"  # what serves docker.io
INDEX = "index.docker.io"  # where it is searched


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str  # with a port where one was given
    schemes: tuple[str, ...]  # to try in this order
    is_mirror: bool = False


def endpoints(domain: str, registries: Registries) -> tuple[Endpoint, ...]:
    """In the order in which they are asked: a mirror that fails is passed over. Raises
    InvalidRequest where nothing can have that address."""
    if not is_address(domain):
        raise InvalidRequest(f"invalid address of a registry: {domain!r}")
    if domain != DEFAULT_DOMAIN:
        schemes = ("https", "http") if may_be_plain(domain, registries) else ("https",)
        return (Endpoint(domain, schemes),)
    mirrors = [mirror.split("://") for mirror in registries.mirrors]
    return (
        *(Endpoint(host, (scheme,), is_mirror=True) for scheme, host in mirrors),
        Endpoint(HUB, ("https",)),
    )


def search_endpoint(domain: str, registries: Registries) -> Endpoint:
    if domain == DEFAULT_DOMAIN:
        return Endpoint(INDEX, ("https",))
    return endpoints(domain, registries)[-1]


def domain_of(address: str) -> str:
    """Of a registry as `docker login` names it: a host, or Docker Hub's https://.../v1/."""
    host = address.partition("://")[2] if "://" in address else address
    host = host.partition("/")[0].lower()
    return DEFAULT_DOMAIN if not address or host in (INDEX, HUB) else host


def may_be_plain(host: str, registries: Registries) -> bool:
    """This machine itself, and what the daemon was told: a host, `host:port`, or a network.

    A name is compared as it is: what it resolves to is another's word.
    """
    if host in registries.insecure or f"http://{host}" in registries.mirrors:
        return True
    name = host_name(host)
    if name == "localhost" or name in registries.insecure:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(
        address in network for network in _networks(registries.insecure)
    )


def host_name(host: str) -> str:
    """Without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _networks(
    entries: tuple[str, ...],
) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    return [ipaddress.ip_network(entry) for entry in entries if "/" in entry]
