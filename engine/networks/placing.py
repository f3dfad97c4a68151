"""Pure: what a container's place in a network is made of."""

import ipaddress
from collections.abc import Iterable, Mapping, Sequence

from engine.errors import Failure, InvalidRequest
from engine.ids import short_id
from engine.networks.ipam import Address, AddressSpace
from engine.networks.model import Endpoint, EndpointRequest, Network


def check_wishes(
    network: Network, addresses: Mapping[int, str], aliases: Sequence[str] = ()
) -> None:
    """Whether `network` can give these addresses (by IP version, "" = any) and names to anybody.
    All that is wrong is told at once, in Docker's words. Raises InvalidRequest."""
    problems = []
    if network.predefined and aliases:
        problems.append(
            "network-scoped alias is supported only for containers in user defined networks"
        )
    for version, text in addresses.items():
        if not text:
            continue
        address = _parsed(text)
        if address is None or address.version != version:
            problems.append(f"invalid IPv{version} address: {text}")
        if network.predefined:
            problems.append("user specified IP address is supported on user defined networks only")
        if network.predefined or network.has_links:
            problems += _outside(network, version, text, address)
    if problems:
        lines = problems if len(problems) == 1 else [f"* {problem}" for problem in problems]
        raise InvalidRequest("\n".join(["invalid endpoint settings:", *lines]))


def _outside(network: Network, version: int, text: str, address: Address | None) -> list[str]:
    """An address of a version that isn't enabled may be wished for; nobody gets it."""
    pools = (*network.pools, *network.unused)
    asked = [ipaddress.ip_network(pool.subnet) for pool in pools if not pool.subnet_chosen]
    subnets = [subnet for subnet in asked if subnet.version == version]
    if not subnets:
        return [
            "user specified IP address is supported only when connecting to networks with user"
            " configured subnets"
        ]
    if address is None or not any(address in subnet for subnet in subnets):
        return [f"no configured subnet or ip-range contain the IP address {text}"]
    return []


def _parsed(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def choose_addresses(
    network: Network, request: EndpointRequest, spaces: Mapping[int, AddressSpace]
) -> tuple[dict[int, AddressSpace], dict[int, str]]:
    """An address of each version that the network has, and the spaces without them."""
    wishes = {4: request.ipv4_address, 6: request.ipv6_address}
    check_wishes(network, wishes)
    left, addresses = dict(spaces), {}
    for version, wish in wishes.items():
        space = left.get(version)
        if space is None:
            continue
        if wish:
            left[version] = space.take(wish)
            addresses[version] = str(ipaddress.ip_address(wish))
        elif given := space.give_again(request.before) or space.give():
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


def dns_names(
    container_id: str, name: str, *, aliases: Sequence[str], hostname: str
) -> tuple[str, ...]:
    """In Docker's order: name, aliases, short id, hostname; each once."""
    names = (name, *aliases, short_id(container_id), hostname)
    return tuple(dict.fromkeys(filter(None, names)))
