"""Pure: what a container's place in a network is made of."""

import ipaddress
from collections.abc import Iterable, Mapping

from engine.errors import Failure, InvalidRequest
from engine.ids import short_id
from engine.networks.ipam import AddressSpace
from engine.networks.model import Endpoint, EndpointRequest, Network


def choose_addresses(
    network: Network, request: EndpointRequest, spaces: Mapping[int, AddressSpace]
) -> tuple[dict[int, AddressSpace], dict[int, str]]:
    """An address of each version that the network has, and the spaces without them."""
    wishes = {4: request.ipv4_address, 6: request.ipv6_address}
    if any(wishes.values()) and network.predefined:
        raise InvalidRequest("user specified IP address is supported on user defined networks only")
    left, addresses = dict(spaces), {}
    for version, wish in wishes.items():
        space = left.get(version)
        if space is None:
            if wish:
                raise InvalidRequest(f"network {network.name} has no IPv{version}: {wish}")
        elif wish:
            left[version] = space.take(wish)
            addresses[version] = str(ipaddress.ip_address(wish))
        elif given := space.give():
            left[version], addresses[version] = given
        else:
            raise Failure(
                f"no available IPv{version} addresses on this network's address pools:"
                f" {network.name} ({network.id})"
            )
    return left, addresses


def next_ifname(places: Iterable[Endpoint], prefix: str) -> str:
    used = {place.ifname for place in places}
    names = (f"{prefix}{number}" for number in range(len(used) + 1))
    return next(name for name in names if name not in used)


def interface_sysctls(request: EndpointRequest, ifname: str, *, ipv6: bool) -> dict[str, str]:
    # A container must not be led astray by router advertisements of another (Docker lets it).
    settings = {f"net.ipv6.conf.{ifname}.accept_ra": "0"} if ipv6 else {}
    for name, value in request.sysctls.items():
        settings[name.replace(".IFNAME.", f".{ifname}.")] = value
    return settings


def dns_names(request: EndpointRequest) -> tuple[str, ...]:
    """In Docker's order: name, aliases, short id, hostname; each once."""
    names = (request.container_name, *request.aliases, short_id(request.container_id))
    return tuple(dict.fromkeys(name for name in (*names, request.hostname) if name))
