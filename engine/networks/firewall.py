"""The engine's nftables table in the kernel: loaded whole at start, then changed by elements.

Blocking: called in the networks' thread.
"""

import errno
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from engine.networks.conntrack_message import forget_flow, is_open_at, is_stale, list_flows
from engine.networks.firewall_rules import (
    WILDCARD,
    WILDCARD6,
    PublishedPort,
    Spot,
    open_ports,
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
from engine.networks.nft import SLOTS, Element, Family, Map, Set, Table, TableName, Type
from engine.networks.nft_message import (
    add_elements,
    add_map_elements,
    delete_elements,
    delete_table,
    list_chains,
    list_elements,
    list_tables,
    listed_elements,
    listed_table,
    removed_tables,
    replace_table,
    transaction,
)
from engine.networks.passage import (
    ForwardChain,
    as_text,
    forward_chain,
    list_rules,
    listed_rule,
    may_be_closed,
    reconcile,
)

log = logging.getLogger(__name__)


NFNLGRP_NFTABLES = 7


class FirewallWatch:
    """Tells when a table of ours, or a way through others' chains, goes, by whomever. For the
    event loop."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._name = table_name(tag)
        self._socket = NetlinkSocket.open(NETFILTER)
        handle = self._socket.handle
        handle.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        handle.setblocking(False)

    def fileno(self) -> int:
        return self._socket.handle.fileno()

    def changed(self) -> bool:
        """Reads what has been told since the last call: whether something has to be put back."""
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
            gone = (
                gone
                or any(each.name == self._name for each in removed_tables(datagram))
                or may_be_closed(datagram, self._tag)
            )

    def close(self) -> None:
        self._socket.close()


class Firewall:
    """Not for two threads at once. What it loaded is remembered, for each change to be small."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self.name = table_name(tag)
        self.loaded: dict[Family, Table] = {}
        self._socket = NetlinkSocket.open(NETFILTER)
        self._elements: dict[tuple[Family, str], dict[Element, Element]] = {}

    def close(self) -> None:
        self._socket.close()

    def load(self, tables: Sequence[Table]) -> None:
        """Replaces the whole of each table, all in one transaction."""
        messages = [part for table in tables for part in replace_table(table)]
        self._socket.batch(transaction(messages))
        for table in tables:
            family = table.name.family
            self.loaded[family] = table
            for each in table.maps:
                self._elements[family, each.name] = dict(each.elements)
            opened = _opened(table)
            self._elements[family, opened.name] = dict.fromkeys(opened.elements, ())
        self.open_passages()

    def update_sets(self, tables: Sequence[Table]) -> None:
        """Bridges came or went: makes the sets what `tables` say, by what differs. What is
        published stays. A table whose networks are all gone stays too, and holds nothing."""
        messages = []
        for table in tables:
            known = self.loaded.get(table.name.family)
            if known is None:
                self.load([table])
                continue
            for old, new in zip(known.sets, table.sets, strict=True):
                if new.name == _opened(table).name:
                    continue
                gone, come = old.elements - new.elements, new.elements - old.elements
                messages += delete_elements(table.name, new.name, new.key, gone)
                messages += add_elements(table.name, new.name, new.key, come)
        if messages:
            self._socket.batch(transaction(messages))
        for table in tables:
            self.loaded[table.name.family] = table
        self.open_passages()

    def publish(
        self, ports: Sequence[PublishedPort] = (), *, gone: Sequence[PublishedPort] = ()
    ) -> None:
        """In one transaction `gone` go and `ports` come; a port that was another's is switched."""
        messages = []
        after = {name: dict(known) for name, known in self._elements.items()}
        for family in Family:
            lost = _changing(family, gone)
            for old, new in zip(lost, _changing(family, ports), strict=True):
                name = TableName(family, self.name)
                # No table yet: nothing is published.
                known = after.setdefault((family, new.name), {})
                # Only where it still leads there: another container may have taken the port over.
                drop = {key for key, value in old.elements.items() if known.get(key) == value}
                come = {k: value for k, value in new.elements.items() if known.get(k) != value}
                drop |= come.keys() & known.keys()
                messages += delete_elements(name, new.name, new.key, drop)
                if new.value:
                    messages += add_map_elements(name, new, come)
                else:
                    messages += add_elements(name, new.name, new.key, come)
                for key in drop:
                    del known[key]
                known |= come
        if messages:
            self._socket.batch(transaction(messages))
        self._elements = after
        self._forget_flows(
            [port for port in ports if port.protocol == "udp"],
            [port for port in gone if port.protocol == "udp"],
        )

    def share(
        self, wanted: Mapping[Spot, Sequence[PublishedPort]], there: Collection[PublishedPort]
    ) -> None:
        """In one transaction each of these shared ports leads to those named, and to no others.
        `there`: those of containers that run, named or not."""
        messages, gone = [], []
        after = {name: dict(known) for name, known in self._elements.items()}
        for spot, members in wanted.items():
            name = TableName(spot.family, self.name)
            _, _, somewhere, everywhere = port_maps(spot.family, members)
            new = everywhere if spot.is_everywhere else somewhere
            known = after.setdefault((spot.family, new.name), {})
            had = {key: known[key] for key in _slot_keys(spot) if key in known}
            drop = {k for k, value in had.items() if new.elements.get(k) != value}
            come = {k: value for k, value in new.elements.items() if had.get(k) != value}
            messages += delete_elements(name, new.name, new.key, drop)
            messages += add_map_elements(name, new, come)
            for key in drop:
                del known[key]
            known |= come
            targets = {(each.address, each.port) for each in members}
            for address, port in {*had.values()} - targets:
                lost = PublishedPort(
                    spot.protocol, spot.host_ip, spot.host_port, str(address), int(port)
                )
                gone.append(lost)
        if messages:
            self._socket.batch(transaction(messages))
        self._elements = after
        # A container that runs may answer between our look and the forgetting, which would cut
        # the connection. It is left that chance; `has_connections` knows of it.
        answering = {(each.protocol, each.address, each.port) for each in there}
        self._forget_flows(
            (),
            [
                each
                for each in gone
                if each.protocol != "tcp"
                or (each.protocol, each.address, each.port) not in answering
            ],
        )

    def _forget_flows(self, come: Sequence[PublishedPort], went: Sequence[PublishedPort]) -> None:
        for version in sorted({port.version for port in (*come, *went)}):
            for reply in self._socket.dump(list_flows(version)):
                if is_stale(reply, come, went):
                    try:
                        self._socket.request(forget_flow(reply))
                    except NetlinkError as error:
                        if error.errno != errno.ENOENT:  # it ended by itself
                            raise

    def has_connections(self, ports: Sequence[PublishedPort]) -> bool:
        """Whether a connection to where one of them leads hasn't ended yet, also one that its
        program doesn't know of so far."""
        return any(
            is_open_at(reply, ports)
            for version in sorted({port.version for port in ports})
            for reply in self._socket.dump(list_flows(version))
        )

    def published(self) -> tuple[PublishedPort, ...]:
        """What the tables in the kernel lead where; empty where there are none."""
        found: dict[PublishedPort, None] = {}
        for table in self._own_tables():
            for each in (*port_maps(table.family, ()), _as_map(table.family, ())):
                try:
                    found |= dict.fromkeys(self._read(table, each))
                except NetlinkError as error:
                    # A daemon of another version left the table, without such a map.
                    if error.errno != errno.ENOENT:
                        raise
        return tuple(found)

    def _read(self, table: TableName, each: Map) -> Iterator[PublishedPort]:
        anywhere = WILDCARD if table.family is Family.IPV4 else WILDCARD6
        for reply in self._socket.dump(list_elements(table, each.name)):
            for key, value in listed_elements(reply, each.key, each.value):
                if not value:
                    own, protocol, port = key
                    yield PublishedPort(str(protocol), anywhere, 0, str(own), int(port))
                    continue
                shared = each.key[-1] is Type.MARK
                *where, protocol, host_port = key[:-1] if shared else key
                host_ip = str(where[0]) if where else anywhere
                own, port = value
                yield PublishedPort(
                    str(protocol), host_ip, int(host_port), str(own), int(port), shared
                )

    def put_back(self) -> bool:
        """Whether a table had been taken away by another program (`nft flush ruleset`)."""
        here = self._own_tables()
        missing = [table for table in self.loaded.values() if table.name not in here]
        if missing:
            self.load([self._with_elements(table) for table in missing])
        return bool(missing)

    def open_passages(self) -> None:
        """Other programs' chains whose policy drops what is forwarded let our bridges' packets by;
        nothing of ours is left there for bridges that are gone."""
        for reply in self._socket.dump(list_chains()):
            chain = forward_chain(reply)
            if chain is None or chain.table == self.name:
                continue
            bridges = self._bridges(chain)
            try:
                replies = self._socket.dump(list_rules(chain))
                rules = [listed_rule(each, self._tag) for each in replies]
                if messages := reconcile(chain, rules, bridges, self._tag):
                    self._socket.batch(transaction(messages))
            except NetlinkError as error:
                # As where its owner has locked the table. Containers run all the same.
                hint = (
                    "; containers can't pass this chain, whose policy drops; the program that owns"
                    f" it has to add to it: {as_text(bridges)}"
                )
                log.warning("%s%s", error, hint if chain.drops and bridges else "")

    def _bridges(self, chain: ForwardChain) -> set[str]:
        """Those whose packets come to it: of both IP versions where its family is inet."""
        numbers = {family.number for family in Family}
        return {
            str(name)
            for family, table in self.loaded.items()
            if chain.family == family.number or chain.family not in numbers
            for each in table.sets
            if each.name == "bridges"
            for (name,) in each.elements
        }

    def _with_elements(self, table: Table) -> Table:
        """With what is published now."""
        family, opened = table.name.family, _opened(table)
        now = frozenset(self._elements[family, opened.name])
        sets = tuple(replace(e, elements=now) if e is opened else e for e in table.sets)
        maps = tuple(replace(e, elements=self._elements[family, e.name]) for e in table.maps)
        return replace(table, sets=sets, maps=maps)

    def remove(self) -> None:
        messages = [part for table in self._own_tables() for part in delete_table(table)]
        if messages:
            self._socket.batch(transaction(messages))
        self.loaded = {}
        self._elements = {}
        self.open_passages()

    def others(self) -> tuple[str, ...]:
        """Tables of other daemons of this engine on this host."""
        names = (table.name for table in self._tables())
        return tuple(n for n in names if n.startswith("pycompose-") and n != self.name)

    def present(self) -> bool:
        return bool(self._own_tables())

    def _own_tables(self) -> list[TableName]:
        return [table for table in self._tables() if table.name == self.name]

    def _tables(self) -> list[TableName]:
        found = (listed_table(reply) for reply in self._socket.dump(list_tables()))
        return [table for table in found if table is not None]


def _opened(table: Table) -> Set:
    wanted = open_ports(table.name.family, ()).name
    return next(each for each in table.sets if each.name == wanted)


def _changing(family: Family, ports: Sequence[PublishedPort]) -> tuple[Map, ...]:
    """All that holds ports with one owner."""
    return (*port_maps(family, ports)[:2], _as_map(family, ports))


def _as_map(family: Family, ports: Sequence[PublishedPort]) -> Map:
    """The set of open ports as a map to nothing."""
    opened = open_ports(family, ports)
    return Map(opened.name, opened.key, (), dict.fromkeys(opened.elements, ()))


def _slot_keys(spot: Spot) -> Iterator[Element]:
    return ((*spot.key, number) for number in range(SLOTS))
