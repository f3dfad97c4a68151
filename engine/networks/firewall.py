"""The engine's nftables table in the kernel: loaded whole at start, then changed by elements.

Blocking: called in the networks' thread.
"""

import errno
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from engine.networks.conntrack_message import forget_flow, is_stale, list_flows
from engine.networks.firewall_rules import (
    Element,
    Map,
    PublishedPort,
    Table,
    port_maps,
    table_name,
)
from engine.networks.netlink_socket import (
    NETFILTER,
    NETLINK_ADD_MEMBERSHIP,
    SOL_NETLINK,
    NetlinkError,
    NetlinkSocket,
)
from engine.networks.nft_message import (
    add_elements,
    add_map_elements,
    delete_elements,
    delete_table,
    drops_forwarded,
    list_chains,
    list_elements,
    list_tables,
    listed_elements,
    listed_table,
    removed_tables,
    replace_table,
    transaction,
)

log = logging.getLogger(__name__)


NFNLGRP_NFTABLES = 7


class RemovalWatch:
    """Tells when a table of this name is removed, by whomever. For the event loop."""

    def __init__(self, tag: str) -> None:
        self._name = table_name(tag)
        self._socket = NetlinkSocket.open(NETFILTER)
        handle = self._socket.handle
        handle.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        handle.setblocking(False)

    def fileno(self) -> int:
        return self._socket.handle.fileno()

    def removed(self) -> bool:
        """Reads what has been told since the last call."""
        gone = False
        while True:
            try:
                datagram = self._socket.handle.recv(1 << 16)
            except BlockingIOError:
                return gone
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                gone = True  # something was missed: have a look
                continue
            gone = gone or self._name in removed_tables(datagram)

    def close(self) -> None:
        self._socket.close()


class Firewall:
    """Not for two threads at once. What it loaded is remembered, for each change to be small."""

    def __init__(self, tag: str) -> None:
        self.name = table_name(tag)
        self.loaded: Table | None = None
        self._socket = NetlinkSocket.open(NETFILTER)
        self._elements: dict[str, dict[Element, Element]] = {}

    def close(self) -> None:
        self._socket.close()

    def load(self, table: Table) -> None:
        """Replaces the whole table in one transaction."""
        self._socket.batch(transaction(replace_table(table)))
        self.loaded = table
        self._elements = {each.name: dict(each.elements) for each in table.maps}

    def update_sets(self, table: Table) -> None:
        """Bridges came or went: makes the sets what `table` says, by what differs."""
        if self.loaded is None:
            self.load(table)
            return
        messages = []
        for old, new in zip(self.loaded.sets, table.sets, strict=True):
            gone, come = old.elements - new.elements, new.elements - old.elements
            messages += delete_elements(self.name, new.name, new.key, gone)
            messages += add_elements(self.name, new.name, new.key, come)
        if messages:
            self._socket.batch(transaction(messages))
        self.loaded = table

    def publish(
        self, ports: Sequence[PublishedPort] = (), *, gone: Sequence[PublishedPort] = ()
    ) -> None:
        """In one transaction `gone` go and `ports` come; a port that was another's is switched."""
        messages = []
        after = {name: dict(known) for name, known in self._elements.items()}
        for old, new in zip(port_maps(gone), port_maps(ports), strict=True):
            known = after.setdefault(new.name, {})  # no table yet: nothing is published
            # Only where it still leads there: another container may have taken the port over.
            drop = {key for key, value in old.elements.items() if known.get(key) == value}
            come = {key: value for key, value in new.elements.items() if known.get(key) != value}
            drop |= come.keys() & known.keys()
            messages += delete_elements(self.name, new.name, new.key, drop)
            messages += add_map_elements(self.name, new, come)
            for key in drop:
                del known[key]
            known |= come
        if messages:
            self._socket.batch(transaction(messages))
        self._elements = after
        self._forget_flows(ports, gone)

    def _forget_flows(self, ports: Sequence[PublishedPort], gone: Sequence[PublishedPort]) -> None:
        come, went = ([p for p in each if p.protocol == "udp"] for each in (ports, gone))
        if not come and not went:
            return
        for reply in self._socket.dump(list_flows()):
            if is_stale(reply, come, went):
                try:
                    self._socket.request(forget_flow(reply))
                except NetlinkError as error:
                    if error.errno != errno.ENOENT:  # it ended by itself
                        raise

    def published(self) -> tuple[PublishedPort, ...]:
        """What the table in the kernel leads where; empty where there is no table."""
        try:
            return tuple(chain.from_iterable(self._read(each) for each in port_maps(())))
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return ()
            raise

    def _read(self, each: Map) -> Iterator[PublishedPort]:
        for reply in self._socket.dump(list_elements(self.name, each.name)):
            for key, (address, port) in listed_elements(reply, each.key, each.value):
                host_ip = str(key[0]) if len(key) == 3 else "0.0.0.0"
                protocol, host_port = key[-2:]
                yield PublishedPort(str(protocol), host_ip, int(host_port), str(address), int(port))

    def put_back(self) -> bool:
        """Whether the table had been taken away by another program (`nft flush ruleset`)."""
        if self.loaded is None or self.present():
            return False
        maps = tuple(replace(each, elements=self._elements[each.name]) for each in self.loaded.maps)
        self.load(replace(self.loaded, maps=maps))
        return True

    def remove(self) -> None:
        self._socket.batch(transaction(delete_table(self.name)))
        self.loaded = None
        self._elements = {}

    def others(self) -> tuple[str, ...]:
        """Tables of other daemons of this engine on this host."""
        names = (listed_table(reply) for reply in self._socket.dump(list_tables()))
        return tuple(n for n in names if n.startswith("pycompose-") and n != self.name)

    def present(self) -> bool:
        return any(listed_table(reply) == self.name for reply in self._socket.dump(list_tables()))

    def foreign_drops(self) -> tuple[str, ...]:
        """Chains of others whose policy drops what is forwarded: no rule of ours overrides it."""
        found = (drops_forwarded(reply) for reply in self._socket.dump(list_chains()))
        return tuple(name for name in found if name)
