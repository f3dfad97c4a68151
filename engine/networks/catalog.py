"""The networks there are: their records on disk, and the addresses of each that are given out.
Owned by the event loop; nothing here touches the kernel's network."""

import logging
from collections.abc import Iterator
from pathlib import Path

from engine.errors import InvalidRequest, NotFound
from engine.networks.host_network import by_version
from engine.networks.ipam import AddressSpace, Subnet
from engine.networks.model import Endpoint, Network
from engine.networks.stored import network_document, parse_network
from engine.records import read_record, remove_torn, sync_directory, write_record

log = logging.getLogger(__name__)


class Catalog:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._networks: dict[str, Network] = {}
        self.spaces: dict[str, dict[int, AddressSpace]] = {}  # by network id and IP version

    def load(self) -> None:
        """What is on disk. A record that can't be read stays there, and is no network."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_torn(self._root)
        for path in sorted(self._root.glob("*.json")):
            try:
                network = parse_network(read_record(path))
            except (ValueError, OSError) as error:
                log.error("network record %s can't be read and is left alone: %s", path.name, error)
                continue
            self.keep(network)

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._networks

    def __getitem__(self, network_id: str) -> Network:
        return self._networks[network_id]

    def __iter__(self) -> Iterator[Network]:
        return iter(tuple(self._networks.values()))

    def find(self, reference: str) -> Network:
        """By id, name, or unique id prefix. Raises NotFound."""
        if found := self._networks.get(reference) or self.named(reference):
            return found
        matching = [
            n for key, n in self._networks.items() if reference and key.startswith(reference)
        ]
        if len(matching) > 1:
            raise InvalidRequest(
                f"network {reference} is ambiguous ({len(matching)} matches found)"
            )
        if not matching:
            raise NotFound(f"network {reference} not found")
        return matching[0]

    def named(self, name: str) -> Network | None:
        return next((each for each in self._networks.values() if each.name == name), None)

    def subnets(self) -> tuple[Subnet, ...]:
        return tuple(space.subnet for each in self.spaces.values() for space in each.values())

    def keep(self, network: Network) -> None:
        """It may be used from here on. A network that changed begins with no address given out."""
        self._networks[network.id] = network
        if network.pools and not network.config_only:
            spaces = {version: AddressSpace.of(pool) for version, pool in by_version(network)}
            self.spaces[network.id] = spaces

    def withdraw(self, network_id: str) -> None:
        """Nobody gets a place in it from here on; its record stays until `forget`."""
        del self._networks[network_id]
        self.spaces.pop(network_id, None)

    def write(self, network: Network) -> None:
        write_record(self._root / f"{network.id}.json", network_document(network))

    def forget(self, network_id: str) -> None:
        (self._root / f"{network_id}.json").unlink(missing_ok=True)
        sync_directory(self._root)

    def take(self, endpoint: Endpoint) -> None:
        """Its addresses are in use. Raises Forbidden, InvalidRequest."""
        spaces = self.spaces[endpoint.network_id]
        for version, space in list(spaces.items()):
            if address := endpoint.address(version):
                spaces[version] = space.take(address)

    def release(self, endpoint: Endpoint) -> None:
        spaces = self.spaces.get(endpoint.network_id, {})
        for version, space in list(spaces.items()):
            if address := endpoint.address(version):
                spaces[version] = space.release(address)
