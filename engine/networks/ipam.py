"""Pure: which subnet a network gets, and which address an endpoint. Values in, values out."""

import hashlib
import ipaddress
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import chain

from engine.errors import Failure, Forbidden, InvalidRequest
from engine.networks.model import AddressPool
from engine.settings import PoolOfSubnets

Address = IPv4Address | IPv6Address
Subnet = IPv4Network | IPv6Network

# Blocks, and how many bits the subnets from them have. Docker's: 172.17 to 172.31, then slices of
# 192.168. Where it gives up, after 31 networks: 2048 more.
DEFAULT_POOLS: Sequence[tuple[Subnet, int]] = (
    *((IPv4Network(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    (IPv4Network("192.168.0.0/16"), 20),
    (IPv4Network("10.128.0.0/9"), 20),
)
RTF_REJECT, RTF_ANYCAST, RTF_LOCAL = 0x0200, 0x00100000, 0x80000000
OVERLAP = "invalid pool request: Pool overlaps with other one on this address space"


@dataclass(frozen=True, slots=True)
class Route:
    """A destination of the host, other than the default route."""

    network: Subnet
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
            network = _ipv4_network(destination, mask.bit_count())
            routes.append(Route(network, fields[0], direct=gateway == 0))
    return tuple(routes)


@lru_cache(maxsize=1024)
def _ipv4_network(destination: int, prefix: int) -> IPv4Network:
    """The routes of hundreds of bridges are the same ones each time."""
    return IPv4Network((destination, prefix))


def parse_routes6(table: str) -> tuple[Route, ...]:
    """The text of /proc/net/ipv6_route, without what is the kernel's own: the host's addresses,
    link-local and multicast networks."""
    routes = []
    for line in table.splitlines():
        fields = line.split()
        network = IPv6Network((bytes.fromhex(fields[0]), int(fields[1], 16)))
        own = int(fields[8], 16) & (RTF_LOCAL | RTF_ANYCAST | RTF_REJECT)
        if network.prefixlen and not own and not network.is_link_local and not network.is_multicast:
            routes.append(Route(network, fields[9], direct=not int(fields[4], 16)))
    return tuple(routes)


def private_block(tag: str) -> IPv6Network:
    """RFC 4193: the /48 from which this daemon's networks get their /64; always the same one."""
    identifier = hashlib.sha256(f"pycompose {tag}".encode()).digest()[:5]
    return IPv6Network((b"\xfd" + identifier + bytes(10), 48))


def default_pools(
    version: int, tag: str, pools: Sequence[PoolOfSubnets] = ()
) -> Sequence[tuple[Subnet, int]]:
    """`pools`: what the daemon was told instead of Docker's."""
    if version == 6:
        return ((private_block(tag), 64),)
    return [(pool.base, pool.size) for pool in pools] or DEFAULT_POOLS


def choose_subnet(
    taken: Iterable[Subnet],
    *,
    version: int = 4,
    tag: str = "",
    pools: Sequence[PoolOfSubnets] = (),
) -> str:
    """The first default subnet free of `taken`. Raises Failure when all are in use."""
    occupied = Occupied(other for other in taken if other.version == version)
    for block, prefix in default_pools(version, tag, pools):
        size = 1 << (block.max_prefixlen - prefix)
        first, end = int(block.network_address), int(block.broadcast_address)
        while first <= end:
            until = occupied.until(first, first + size - 1)
            if until is None:
                return f"{type(block.network_address)(first)}/{prefix}"
            first += ((until - first) // size + 1) * size
    raise Failure("all predefined address pools have been fully subnetted")


class Occupied:
    """Networks of one version, for the question whether a range overlaps any of them: with hundreds
    of networks each range is looked up, not compared with all."""

    def __init__(self, networks: Iterable[Subnet]) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []  # of all up to here: one network may hold another
        for first, last in sorted(
            (int(each.network_address), int(each.broadcast_address)) for each in networks
        ):
            self._firsts.append(first)
            self._lasts.append(max(last, self._lasts[-1] if self._lasts else 0))

    def until(self, first: int, last: int) -> int | None:
        """None: all of these addresses are free. Otherwise the last one that is not, which may be
        further on, with none free between `last` and there."""
        before = bisect_right(self._firsts, last)
        until = self._lasts[before - 1] if before else -1
        return until if until >= first else None


def _overlaps(subnet: Subnet, others: Iterable[Subnet]) -> bool:
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    return any(
        other.version == subnet.version
        and first <= int(other.broadcast_address)
        and int(other.network_address) <= last
        for other in others
    )


def wanted_pools(
    pools: Sequence[AddressPool], *, ipv4: bool, ipv6: bool
) -> tuple[tuple[int, AddressPool], ...]:
    """(version, what was asked of it) of a network that is to have those versions. Raises
    InvalidRequest where there are several of one."""
    found = []
    for version, enabled in ((4, ipv4), (6, ipv6)):
        asked = [each for each in pools if each.subnet and _subnet(each.subnet).version == version]
        if not enabled:
            continue
        if len(asked) > 1:
            raise InvalidRequest("bridge driver doesn't support multiple subnets")
        found.append((version, asked[0] if asked else AddressPool()))
    return tuple(found)


def complete_pool(pool: AddressPool) -> AddressPool:
    """`pool` with its gateway decided; everything in it belongs together. Its subnet stays as it is
    written: by that clients see whether it is what they want. Raises InvalidRequest, and Forbidden
    where an address is wanted for two things."""
    subnet = _subnet(pool.subnet)
    if subnet.num_addresses < 2:
        raise InvalidRequest(f"invalid subnet {subnet}: there is no room for a container")
    ip_range = pool.ip_range
    if ip_range:
        narrowed = _network("ip-range", ip_range)
        if not _within(narrowed, subnet):
            raise InvalidRequest(f"invalid ip-range {ip_range}: it lies outside of subnet {subnet}")
    for name, text in pool.auxiliary.items():
        if _address(f"auxiliary address {name}", text) not in subnet:
            raise InvalidRequest(f"no matching subnet for aux-address {text}")
    if pool.gateway:
        chosen = _address("gateway", pool.gateway)
        if chosen not in subnet:
            raise InvalidRequest(f"no matching subnet for gateway {chosen}")
        gateway = str(chosen)
    else:
        gateway = next(_hosts(subnet, _network("ip-range", ip_range) if ip_range else subnet))
    _refuse_twice(subnet, gateway, pool.auxiliary)
    return replace(pool, gateway=gateway, gateway_chosen=not pool.gateway)


def _refuse_twice(subnet: Subnet, gateway: str, auxiliary: Mapping[str, str]) -> None:
    """In Docker's order: the gateway has its address before any other."""
    wishes = [(f"gateway ({gateway})", gateway)]
    wishes += [(f"secondary ip address ({name}:{text})", text) for name, text in auxiliary.items()]
    taken = set(edges_of(subnet))
    for what, text in wishes:
        number = int(ipaddress.ip_address(text))
        if number in taken:
            raise Forbidden(f"failed to allocate {what}: Address already in use")
        taken.add(number)


def _within(inner: Subnet, outer: Subnet) -> bool:
    return inner.version == outer.version and (
        inner.network_address in outer and inner.broadcast_address in outer
    )


def _hosts(subnet: Subnet, within: Subnet) -> Iterator[str]:
    edges = edges_of(subnet)
    return (str(address) for address in within if int(address) not in edges)


def edges_of(subnet: Subnet) -> frozenset[int]:
    """Addresses that are no host's: IPv4's broadcast, and the first of each, which in IPv6 means
    any router. A link of two hosts has neither (RFC 3021, RFC 6164)."""
    if subnet.num_addresses == 2:
        return frozenset()
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    return frozenset((first, last) if subnet.version == 4 else (first,))


def refuse_overlap(subnet: str, others: Iterable[Subnet]) -> None:
    if _overlaps(ipaddress.ip_network(subnet), others):
        raise Forbidden(OVERLAP)


def _subnet(text: str) -> Subnet:
    try:
        return _network("subnet", text)
    except InvalidRequest as error:
        raise InvalidRequest(f"invalid network config:\n{error}") from error


def _network(what: str, text: str) -> Subnet:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise InvalidRequest(f"invalid {what} {text}: invalid CIDR block notation") from error
    if "/" not in text or ipaddress.ip_interface(text).ip != network.network_address:
        raise InvalidRequest(f"invalid {what} {text}: it should be {network}")
    return network


def _address(what: str, text: str) -> Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise InvalidRequest(f"invalid {what} {text}: not an IP address") from error


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """The addresses of one network. The search goes on after the last one given out, so that an
    address is not used again at once."""

    subnet: Subnet
    first: int  # the range to give out from
    last: int
    reserved: frozenset[int]  # gateway, auxiliary, the subnet's edges
    taken: frozenset[int] = frozenset()
    recent: int = 0

    @classmethod
    def of(cls, pool: AddressPool) -> "AddressSpace":
        subnet = ipaddress.ip_network(pool.subnet)
        ip_range = ipaddress.ip_network(pool.ip_range) if pool.ip_range else subnet
        kept = [pool.gateway, *pool.auxiliary.values()]
        return cls(
            subnet,
            first=int(ip_range.network_address),
            last=int(ip_range.broadcast_address),
            reserved=edges_of(subnet) | {int(ipaddress.ip_address(text)) for text in kept},
        )

    def give(self) -> "tuple[AddressSpace, str] | None":
        """The next free address, or None when all are taken."""
        start = self.recent + 1 if self.first <= self.recent < self.last else self.first
        for candidate in chain(range(start, self.last + 1), range(self.first, start)):
            if candidate not in self.taken and candidate not in self.reserved:
                after = replace(self, taken=self.taken | {candidate}, recent=candidate)
                return after, str(self._address(candidate))
        return None

    def give_again(self, wanted: Iterable[str]) -> "tuple[AddressSpace, str] | None":
        """The first of these that is of this space and free."""
        for text in wanted:
            address = ipaddress.ip_address(text)
            number = int(address)
            is_here = address.version == self.subnet.version and self.first <= number <= self.last
            if is_here and number not in self.taken and number not in self.reserved:
                return replace(self, taken=self.taken | {number}), text
        return None

    def _address(self, number: int) -> Address:
        # The class is said: a small number would be taken for an IPv4 address.
        return IPv4Address(number) if self.subnet.version == 4 else IPv6Address(number)

    def take(self, text: str) -> "AddressSpace":
        """Raises InvalidRequest where `text` is of another subnet, Forbidden where it is taken."""
        address = _address("address", text)
        if address not in self.subnet:
            raise InvalidRequest(f"no configured subnet or ip-range contain the IP address {text}")
        if int(address) in self.taken or int(address) in self.reserved:
            raise Forbidden("Address already in use")
        return replace(self, taken=self.taken | {int(address)})

    def release(self, text: str) -> "AddressSpace":
        return replace(self, taken=self.taken - {int(ipaddress.ip_address(text))})


def mac_of(address: str) -> str:
    """Docker's way: an address that comes back brings the same hardware address with it. Of an
    IPv6 address a digest, as its last bytes alone may be another one's too."""
    packed = ipaddress.ip_address(address).packed
    if len(packed) == 16:
        packed = hashlib.sha256(packed).digest()[:4]
    return ":".join(["02", "42", *(f"{part:02x}" for part in packed)])
