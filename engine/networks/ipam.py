"""Pure: which subnet a network gets, and which address an endpoint. Values in, values out."""

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from itertools import chain

from engine.errors import Failure, Forbidden, InvalidRequest
from engine.networks.model import AddressPool

# Docker's: 172.17 to 172.31, then slices of 192.168.
DEFAULT_POOLS = (
    *(IPv4Network(f"172.{second}.0.0/16") for second in range(17, 32)),
    *IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"


@dataclass(frozen=True, slots=True)
class Route:
    """A destination of the host, other than the default route."""

    network: IPv4Network
    interface: str
    direct: bool  # without a gateway: the network of one of the host's own interfaces


def parse_routes(table: str) -> tuple[Route, ...]:
    """The text of /proc/net/route: addresses in hex, of the machine's byte order."""
    routes = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        destination, gateway, mask = (
            int.from_bytes(bytes.fromhex(fields[i])[::-1], "big") for i in (1, 2, 7)
        )
        if mask:
            network = IPv4Network((destination, mask.bit_count()))
            routes.append(Route(network, fields[0], direct=gateway == 0))
    return tuple(routes)


def choose_subnet(taken: Iterable[IPv4Network], *, reserved: Iterable[IPv4Network] = ()) -> str:
    """The first default pool free of `taken`; those that overlap `reserved` only as a last resort.
    Raises Failure when all are in use."""
    taken, reserved = list(taken), list(reserved)
    free = [pool for pool in DEFAULT_POOLS if not any(pool.overlaps(other) for other in taken)]
    free.sort(key=lambda pool: any(pool.overlaps(other) for other in reserved))
    if not free:
        raise Failure("all predefined address pools have been fully subnetted")
    return str(free[0])


def complete_pool(pool: AddressPool) -> AddressPool:
    """`pool` with its gateway decided; everything in it belongs together. Raises InvalidRequest."""
    subnet = _network("subnet", pool.subnet)
    if subnet.prefixlen > 30:
        raise InvalidRequest(f"invalid subnet {subnet}: there is no room for a container")
    ip_range = pool.ip_range
    if ip_range:
        narrowed = _network("ip-range", ip_range)
        if not narrowed.subnet_of(subnet):
            raise InvalidRequest(f"invalid ip-range {ip_range}: it lies outside of subnet {subnet}")
        ip_range = str(narrowed)
    for name, text in pool.auxiliary.items():
        if _address(f"auxiliary address {name}", text) not in subnet:
            raise InvalidRequest(f"no matching subnet for aux-address {text}")
    if pool.gateway:
        gateway = _address("gateway", pool.gateway)
        if gateway not in subnet or gateway == subnet.network_address:
            raise InvalidRequest(f"no matching subnet for gateway {gateway}")
    else:
        reserved = {IPv4Address(text) for text in pool.auxiliary.values()}
        first = _network("ip-range", ip_range) if ip_range else subnet
        gateway = next(host for host in _hosts(subnet, first) if host not in reserved)
    return replace(pool, subnet=str(subnet), gateway=str(gateway), ip_range=ip_range)


def _hosts(subnet: IPv4Network, within: IPv4Network) -> Iterator[IPv4Address]:
    edges = (subnet.network_address, subnet.broadcast_address)
    return (address for address in within if address not in edges)


def refuse_overlap(subnet: str, others: Iterable[IPv4Network]) -> None:
    wanted = IPv4Network(subnet)
    if any(wanted.overlaps(other) for other in others):
        raise Forbidden(OVERLAP)


def _network(what: str, text: str) -> IPv4Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidRequest(f"invalid {what} {text}: {error}") from error
    if not isinstance(network, IPv4Network):
        raise InvalidRequest(f"invalid {what} {text}: this engine's networks are IPv4 only")
    if "/" not in text or ipaddress.ip_interface(text).ip != network.network_address:
        raise InvalidRequest(f"invalid {what} {text}: it should be {network}")
    return network


def _address(what: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError as error:
        raise InvalidRequest(f"invalid {what} {text}: not an IPv4 address") from error


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """The addresses of one network. The search goes on after the last one given out, so that an
    address is not used again at once."""

    subnet: IPv4Network
    first: int  # the range to give out from
    last: int
    reserved: frozenset[int]  # gateway, auxiliary, the subnet's edges
    taken: frozenset[int] = frozenset()
    recent: int = 0

    @classmethod
    def of(cls, pool: AddressPool) -> "AddressSpace":
        subnet = IPv4Network(pool.subnet)
        ip_range = IPv4Network(pool.ip_range) if pool.ip_range else subnet
        kept = [pool.gateway, *pool.auxiliary.values()]
        reserved = {int(IPv4Address(text)) for text in kept}
        reserved |= {int(subnet.network_address), int(subnet.broadcast_address)}
        return cls(
            subnet,
            first=int(ip_range.network_address),
            last=int(ip_range.broadcast_address),
            reserved=frozenset(reserved),
        )

    def give(self) -> "tuple[AddressSpace, str] | None":
        """The next free address, or None when all are taken."""
        start = self.recent + 1 if self.first <= self.recent < self.last else self.first
        for candidate in chain(range(start, self.last + 1), range(self.first, start)):
            if candidate not in self.taken and candidate not in self.reserved:
                after = replace(self, taken=self.taken | {candidate}, recent=candidate)
                return after, str(IPv4Address(candidate))
        return None

    def take(self, text: str) -> "AddressSpace":
        """Raises InvalidRequest where `text` is of another subnet, Forbidden where it is taken."""
        address = int(_address("address", text))
        if IPv4Address(address) not in self.subnet:
            raise InvalidRequest(f"no configured subnet or ip-range contain the IP address {text}")
        if address in self.taken or address in self.reserved:
            raise Forbidden("Address already in use")
        return replace(self, taken=self.taken | {address})

    def release(self, text: str) -> "AddressSpace":
        return replace(self, taken=self.taken - {int(IPv4Address(text))})


def mac_of(address: str) -> str:
    """Docker's way: an address that comes back brings the same hardware address with it."""
    return ":".join(["02", "42", *(f"{part:02x}" for part in IPv4Address(address).packed)])
