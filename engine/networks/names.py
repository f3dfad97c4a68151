"""Pure: which names each network knows, and what a container may ask for."""

import ipaddress
from collections.abc import Iterable

from engine.networks.model import Endpoint


class Directory:
    """Endpoints by network and name. A name may stand for many (the replicas of a service)."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, dict[str, Endpoint]]] = {}
        self._by_address: dict[str, dict[str, Endpoint]] = {}

    def add(self, endpoint: Endpoint) -> None:
        names = self._by_name.setdefault(endpoint.network_id, {})
        for name in endpoint.dns_names:
            names.setdefault(name.lower(), {})[endpoint.endpoint_id] = endpoint
        for address in (endpoint.ipv4_address, endpoint.ipv6_address):
            if address:
                self._by_address.setdefault(endpoint.network_id, {})[address] = endpoint

    def remove(self, endpoint: Endpoint) -> None:
        names = self._by_name.get(endpoint.network_id, {})
        for name in endpoint.dns_names:
            sharing = names.get(name.lower(), {})
            sharing.pop(endpoint.endpoint_id, None)
            if not sharing:
                names.pop(name.lower(), None)
        addresses = self._by_address.get(endpoint.network_id, {})
        for address in (endpoint.ipv4_address, endpoint.ipv6_address):
            addresses.pop(address, None)

    def endpoints(self, asking: Iterable[Endpoint], name: str) -> tuple[Endpoint, ...]:
        """Those called `name` (or `name.network`) in the networks of the `asking` container."""
        name = name.lower().rstrip(".")
        found: dict[str, Endpoint] = {}
        for place in asking:
            names = self._by_name.get(place.network_id, {})
            wanted = [name, place.links.get(name, "").lower()]
            if name.endswith(suffix := f".{place.network_name.lower()}"):
                wanted.append(name.removesuffix(suffix))
            for each in wanted:
                found |= names.get(each, {})
        return tuple(found.values())

    def name_of(self, asking: Iterable[Endpoint], address: str) -> str | None:
        """`container.network`, where one of the asking container's networks has `address`."""
        for place in asking:
            if found := self._by_address.get(place.network_id, {}).get(address):
                return f"{found.container_name}.{found.network_name}"
        return None


def address_of_pointer(name: str) -> str | None:
    """The address asked for by a PTR question, e.g. 2.0.18.172.in-addr.arpa."""
    labels = name.lower().rstrip(".").split(".")
    try:
        if labels[-2:] == ["in-addr", "arpa"] and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if labels[-2:] == ["ip6", "arpa"] and len(labels) == 34:
            return str(ipaddress.IPv6Address(bytes.fromhex("".join(reversed(labels[:32])))))
    except ValueError:
        return None
    return None
