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
from engine.networks.ipam import Route, mac_of, parse_routes
from engine.networks.netlink import Reply
from engine.networks.netlink_socket import NetlinkError, NetlinkSocket

# Of the calling thread's network namespace; /proc/net would be the main thread's.
ROUTES = Path("/proc/thread-self/net/route")
DEVICES = Path("/proc/thread-self/net/dev")
SYSCTL = Path("/proc/sys/net")
FORWARDING = SYSCTL / "ipv4/ip_forward"
VETH = "veth"  # how our ends of the containers' links are called


@dataclass(frozen=True, slots=True)
class Bridge:
    name: str
    address: str
    prefix: int
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


def host_routes() -> tuple[Route, ...]:
    return parse_routes(ROUTES.read_text())


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
        route.request(link.create_bridge(bridge.name, mac_of(bridge.address), bridge.mtu))
        (found,) = route.request(link.get_link(bridge.name))
    elif not bridge.generated and link.alias_of(found) != bridge.alias:
        raise Failure(f"cannot create the bridge {bridge.name}: such an interface exists already")
    index = link.index_of(found)
    _set_up_protocols(bridge.name)
    route.request(
        link.set_alias(bridge.name, index, bridge.alias),
        link.add_address(index, bridge.address, bridge.prefix),
        link.set_up(bridge.name, index),
    )
    return index


def _set_up_protocols(name: str) -> None:
    # A packet from this host's 127.0.0.1 may leave by this bridge: ports published on 127.0.0.1.
    (SYSCTL / "ipv4/conf" / name / "route_localnet").write_text("1")
    # IPv6 is off on IPv4 networks (CVE-2024-32473), router advertisements too (CVE-2020-13401).
    for setting, value in (("accept_ra", "0"), ("disable_ipv6", "1")):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            (SYSCTL / "ipv6/conf" / name / setting).write_text(value)


def delete_link(route: NetlinkSocket, name: str) -> None:
    """What is gone already is fine."""
    found = find_link(route, name)
    if found is not None:
        route.request(link.delete_link(name, link.index_of(found)))


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


def forwarding() -> bool:
    return FORWARDING.read_text().strip() != "0"


def set_forwarding(*, on: bool) -> None:
    FORWARDING.write_text("1" if on else "0")
