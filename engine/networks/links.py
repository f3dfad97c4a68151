"""Bridges and the host's network settings. Blocking (RTNL): called in the networks' thread.

Our bridges carry `pycompose-<tag>` as their alias, so that a daemon knows its own again. They are
made and removed with packed messages: importing pyroute2 takes longer than a whole `up`. What is
rare is pyroute2's: looking for leftovers of a crash.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Failure
from engine.networks import link_message as link
from engine.networks.ipam import Route, parse_routes, parse_routes6
from engine.networks.netlink import Reply
from engine.networks.netlink_socket import NetlinkError, NetlinkSocket

# Of the calling thread's network namespace; /proc/net would be the main thread's.
ROUTES = Path("/proc/thread-self/net/route")
ROUTES6 = Path("/proc/thread-self/net/ipv6_route")
DEVICES = Path("/proc/thread-self/net/dev")
SYSCTL = Path("/proc/sys/net")
FORWARDING = {4: SYSCTL / "ipv4/ip_forward", 6: SYSCTL / "ipv6/conf/all/forwarding"}
VETH = "veth"  # how our ends of the containers' links are called


@dataclass(frozen=True, slots=True)
class Bridge:
    name: str
    mac_address: str
    addresses: tuple[tuple[str, int], ...]  # with prefix lengths; () = not a host of its network
    ipv6: bool
    mtu: int  # 0 = the kernel's default
    alias: str
    generated: bool  # the name holds an id of ours, so it can't be someone else's


@contextlib.contextmanager
def namespace_lock() -> Iterator[None]:
    """Held while a free subnet is chosen and its bridge made: other daemons on this host do the
    same. The lock is on the network namespace itself, so no file of ours stays behind."""
    descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def host_routes(version: int = 4) -> tuple[Route, ...]:
    if version == 4:
        return parse_routes(ROUTES.read_text())
    try:
        return parse_routes6(ROUTES6.read_text())
    except FileNotFoundError:  # a kernel without IPv6
        return ()


def find_link(route: NetlinkSocket, name: str) -> Reply | None:
    try:
        (found,) = route.request(link.get_link(name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return found


def create_bridge(route: NetlinkSocket, bridge: Bridge) -> int:
    """Its index, up and ready for containers; what exists under this name is completed.
    Raises Failure when the name belongs to someone else's interface."""
    found = find_link(route, bridge.name)
    if found is None:
        route.request(link.create_bridge(bridge.name, bridge.mac_address, bridge.mtu))
        (found,) = route.request(link.get_link(bridge.name))
    elif not bridge.generated and link.alias_of(found) != bridge.alias:
        raise Failure(f"cannot create the bridge {bridge.name}: such an interface exists already")
    index = link.index_of(found)
    _set_up_protocols(bridge.name, ipv6=bridge.ipv6)
    messages = [link.set_alias(bridge.name, index, bridge.alias)]
    if bridge.ipv6 and not any(":" in address for address, _ in bridge.addresses):
        messages.append(link.without_link_local(bridge.name, index))
    messages += [link.add_address(index, *each) for each in bridge.addresses]
    route.request(*messages, link.set_up(bridge.name, index))
    return index


def _set_up_protocols(name: str, *, ipv6: bool) -> None:
    # A packet from this host's 127.0.0.1 may leave by this bridge: ports published on 127.0.0.1.
    (SYSCTL / "ipv4/conf" / name / "route_localnet").write_text("1")
    # IPv6 is off on IPv4 networks (CVE-2024-32473), router advertisements too (CVE-2020-13401).
    for setting, value in (("accept_ra", "0"), ("disable_ipv6", "0" if ipv6 else "1")):
        try:
            (SYSCTL / "ipv6/conf" / name / setting).write_text(value)
        except FileNotFoundError:
            if ipv6:
                raise Failure("cannot create an IPv6 network: this kernel has no IPv6") from None


def delete_link(route: NetlinkSocket, name: str) -> None:
    """What is gone already is fine."""
    found = find_link(route, name)
    if found is None:
        return
    try:
        route.request(link.delete_link(name, link.index_of(found)))
    except NetlinkError as error:  # with its namespace, at this moment
        if error.errno != errno.ENODEV:
            raise


def ports_of(route: NetlinkSocket, bridges: Iterable[str]) -> tuple[str, ...]:
    """Our ends of the veths that hang on `bridges`."""
    masters = {link.index_of(found) for name in bridges if (found := find_link(route, name))}
    ends = (name for name in interfaces() if name.startswith(VETH))
    return tuple(
        name
        for name in ends
        if (found := find_link(route, name)) and link.master_of(found) in masters
    )


def bridges_called(alias: str) -> tuple[str, ...]:
    """Names of the bridges that carry `alias`."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return tuple(
            str(found.get("ifname"))
            for found in route.get_links(kind="bridge")
            if found.get("ifalias") == alias
        )


def interfaces() -> tuple[str, ...]:
    lines = DEVICES.read_text().splitlines()[2:]
    return tuple(line.split(":")[0].strip() for line in lines)


def forwarding(version: int = 4) -> bool:
    try:
        return FORWARDING[version].read_text().strip() != "0"
    except FileNotFoundError:  # a kernel without IPv6
        return True


def set_forwarding(version: int, *, on: bool) -> None:
    FORWARDING[version].write_text("1" if on else "0")


def listening_to_routers() -> tuple[str, ...]:
    """Interfaces that take their IPv6 addresses and routes from router advertisements, and would
    lose them when this host becomes a router itself."""
    settings = (SYSCTL / "ipv6/conf").glob("*/accept_ra")
    found = (path.parent.name for path in settings if path.read_text().strip() == "1")
    return tuple(sorted(name for name in found if name not in ("all", "default", "lo")))


def listen_to_routers(name: str, *, though_forwarding: bool) -> None:
    with contextlib.suppress(FileNotFoundError):  # it is gone
        path = SYSCTL / "ipv6/conf" / name / "accept_ra"
        path.write_text("2" if though_forwarding else "1")
