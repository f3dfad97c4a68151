"""One container on its networks: veths, addresses, default route, the way to the name service.

Blocking (RTNL): called in the networks' thread. The container's side is done through sockets that
were made inside its namespace; nobody enters it here.
"""

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.networks import link_message as link
from engine.networks.firewall_rules import (
    name_service_table,
)
from engine.networks.model import Endpoint, version_of
from engine.networks.netlink import Message
from engine.networks.netlink_socket import NetlinkError, NetlinkSocket
from engine.networks.nft_message import create_table, replace_table, transaction

BRIDGE_FILTER = "/proc/sys/net/bridge/bridge-nf-call-iptables"
LINK_LOCAL_PREFIX = {4: 16, 6: 64}


@dataclass(frozen=True, slots=True)
class Place:
    """An endpoint, and what it takes from its network."""

    endpoint: Endpoint
    bridge_index: int = 0
    mtu: int = 0
    isolated: bool = False  # from the other containers of the network (enable_icc: false)
    hairpin: bool = False  # its packets may come back to it from the bridge
    parent: str = ""  # of a macvlan or ipvlan link: the host's interface that it is on
    kind: link.Kind | None = None  # set together with `parent`


@dataclass(frozen=True, slots=True)
class WaysOut:
    """The endpoints whose gateways are a container's default routes."""

    ipv4: Endpoint | None = None
    ipv6: Endpoint | None = None

    def by_version(self) -> tuple[tuple[int, Endpoint | None], ...]:
        return ((4, self.ipv4), (6, self.ipv6))


def ways_out(endpoints: Iterable[Endpoint]) -> WaysOut:
    endpoints = tuple(endpoints)
    return WaysOut(gateway_endpoint(endpoints), gateway_endpoint(endpoints, 6))


def gateway_endpoint(endpoints: Iterable[Endpoint], version: int = 4) -> Endpoint | None:
    """The way out, and the way in for published ports: highest priority, then one that leads out
    in both versions, then by name."""
    leading_out = [endpoint for endpoint in endpoints if endpoint.leads_out(version)]
    ranked = sorted(
        leading_out,
        key=lambda each: (
            -each.gateway_priority,
            not (each.leads_out(4) and each.leads_out(6)),
            each.network_name,
        ),
    )
    return ranked[0] if ranked else None


def attach(host: NetlinkSocket, place: Place, namespace: int) -> None:
    """The link of one endpoint, made in the container's namespace (of a veth the inner end)."""
    endpoint = place.endpoint
    if place.kind is not None:
        below = link.create_on_parent(
            place.kind,
            parent=_index(host, place.parent),
            namespace=namespace,
            ifname=endpoint.ifname,
            mac_address=endpoint.mac_address,
            mtu=place.mtu,
        )
        host.request(below)
        return
    messages = [
        link.create_veth(
            host_ifname=endpoint.host_ifname,
            bridge_index=place.bridge_index,
            mtu=place.mtu,
            namespace=namespace,
            ifname=endpoint.ifname,
            mac_address=endpoint.mac_address,
        )
    ]
    if place.isolated or place.hairpin:
        name = endpoint.host_ifname
        messages.append(link.set_port(name, isolated=place.isolated, hairpin=place.hairpin))
    host.request(*messages)


def bridges_are_filtered() -> bool:
    """Whether br_netfilter is at work: then a container's packet to its own published port goes
    back on the bridge instead of through the host's routing."""
    try:
        with open(BRIDGE_FILTER, "rb", buffering=0) as setting:
            return setting.read(1) != b"0"
    except FileNotFoundError:
        return False


def configure(inside: NetlinkSocket, endpoints: Sequence[Endpoint], *, out: WaysOut) -> None:
    """Addresses of `endpoints`, whose links exist, and the default routes by `out`."""
    for endpoint in endpoints:
        index = _index(inside, endpoint.ifname)
        messages = []
        if not endpoint.ipv6_address:
            messages.append(link.without_link_local(endpoint.ifname, index))
        messages.append(link.set_up(endpoint.ifname, index))
        messages += [link.add_address(index, *each) for each in _addresses(endpoint)]
        messages += [
            _default_route(index, endpoint, version)
            for version, way in out.by_version()
            if way == endpoint
        ]
        inside.request(*messages)


def _addresses(endpoint: Endpoint) -> Iterator[tuple[str, int]]:
    if endpoint.ipv4_address:
        yield endpoint.ipv4_address, endpoint.ipv4_prefix
    if endpoint.ipv6_address:
        yield endpoint.ipv6_address, endpoint.ipv6_prefix
    for address in endpoint.link_local:
        yield address, LINK_LOCAL_PREFIX[version_of(address)]


def _default_route(index: int, way: Endpoint, version: int) -> Message:
    gateway = way.way_out(version)
    if not gateway:
        return link.default_route_by_link(index, version)
    return link.default_route(index, gateway)


def route_by(inside: NetlinkSocket, out: WaysOut) -> None:
    """Change the default routes, after networks came or went."""
    for version, way in out.by_version():
        if way is not None:
            index = _index(inside, way.ifname)
            inside.request(_default_route(index, way, version))
            continue
        try:
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            inside.request(link.drop_default_route(family))
        except NetlinkError as error:
            # There was none, or (a kernel without IPv6) can be none.
            if error.errno not in (errno.ESRCH, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                raise


def repair(host: NetlinkSocket, place: Place, namespace: int, inside: NetlinkSocket) -> bool:
    """After a restart: the link is made again if it is gone (True), or put back on its bridge."""
    if place.kind is not None:
        is_there = has_link(inside, place.endpoint.ifname)
        if not is_there:
            attach(host, place, namespace)
        return not is_there
    try:
        (found,) = host.request(link.get_link(place.endpoint.host_ifname))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
        attach(host, place, namespace)
        return True
    if link.master_of(found) != place.bridge_index:
        name = place.endpoint.host_ifname
        host.request(link.set_master(name, link.index_of(found), place.bridge_index))
    return False


def has_link(handle: NetlinkSocket, ifname: str) -> bool:
    try:
        handle.request(link.get_link(ifname))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


def is_configured(inside: NetlinkSocket, ifname: str) -> bool:
    """Not so where the daemon was killed between making the link and configuring it."""
    (found,) = inside.request(link.get_link(ifname))
    return link.is_up(found)


def detach(handle: NetlinkSocket, ifname: str) -> None:
    """Takes 10 ms and more: only for a container that stays up. Otherwise the namespace goes,
    and the link with it."""
    try:
        handle.request(link.delete_link(ifname, _index(handle, ifname)))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise


def redirect_names(
    netfilter: NetlinkSocket, udp_port: int, tcp_port: int, *, anew: bool = False
) -> None:
    """127.0.0.11:53 leads to the sockets bound to these ports in there. `anew`: whatever is there
    is replaced, which makes the closing of `netfilter` wait 10 ms."""
    table = name_service_table(udp_port, tcp_port)
    netfilter.batch(transaction(replace_table(table) if anew else create_table(table)))


def port_of(descriptor: int) -> int:
    with socket.socket(fileno=os.dup(descriptor)) as handle:
        return int(handle.getsockname()[1])


def _index(handle: NetlinkSocket, ifname: str) -> int:
    request: Message = link.get_link(ifname)
    (found,) = handle.request(request)
    return link.index_of(found)
