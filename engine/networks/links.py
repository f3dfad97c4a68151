"""Bridges: made, found and removed, by pyroute2. Blocking (RTNL): called in the networks' thread.

Our bridges carry `pycompose-<tag>` as their alias, so that a daemon knows its own again.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.errors import Failure
from engine.networks.ipam import Route, mac_of, parse_routes

# Of the calling thread's network namespace; /proc/net would be the main thread's.
ROUTES = Path("/proc/thread-self/net/route")
SYSCTL = Path("/proc/sys/net")
FORWARDING = SYSCTL / "ipv4/ip_forward"


@dataclass(frozen=True, slots=True)
class Bridge:
    name: str
    address: str
    prefix: int
    mtu: int  # 0 = the kernel's default
    alias: str


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


def create_bridge(bridge: Bridge) -> int:
    """Its index, up and ready for containers; what exists under this name is completed.
    Raises Failure when the name belongs to someone else's interface."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as route:
            known = route.link_lookup(ifname=bridge.name)
            if known:
                link = route.get_links(known[0])[0]
                if link.get("ifalias") != bridge.alias:
                    raise Failure(
                        f"cannot create bridge {bridge.name}: the interface exists already"
                    )
                index: int = known[0]
            else:
                # A given hardware address stays when ports come and go; neighbours remember it.
                size = {"mtu": bridge.mtu} if bridge.mtu else {}
                address = mac_of(bridge.address)
                route.link("add", ifname=bridge.name, kind="bridge", address=address, **size)
                index = route.link_lookup(ifname=bridge.name)[0]
                route.link("set", index=index, ifalias=bridge.alias)
            _keep_to_ipv4(bridge.name)
            route.addr("replace", index=index, address=bridge.address, prefixlen=bridge.prefix)
            route.link("set", index=index, state="up")
            return index
    except NetlinkError as error:
        raise Failure(f"cannot create bridge {bridge.name}: {error}") from error


def _keep_to_ipv4(name: str) -> None:
    # A packet from this host's 127.0.0.1 may leave by this bridge: ports published on 127.0.0.1.
    (SYSCTL / "ipv4/conf" / name / "route_localnet").write_text("1")
    # IPv6 is off on IPv4 networks (CVE-2024-32473), router advertisements too (CVE-2020-13401).
    for setting, value in (("disable_ipv6", "1"), ("accept_ra", "0")):
        path = SYSCTL / "ipv6/conf" / name / setting
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            path.write_text(value)


def delete_links(names: list[str]) -> None:
    """Those that are gone already are fine."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        for name in names:
            for index in route.link_lookup(ifname=name):
                route.link("del", index=index)


def bridges_called(alias: str) -> tuple[str, ...]:
    """Names of the bridges that carry `alias`."""
    from pyroute2 import IPRoute

    with IPRoute() as route:
        return tuple(
            str(link.get("ifname"))
            for link in route.get_links(kind="bridge")
            if link.get("ifalias") == alias
        )


def interfaces() -> tuple[str, ...]:
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return tuple(line.split(":")[0].strip() for line in lines)


def forwarding() -> bool:
    return FORWARDING.read_text().strip() != "0"


def set_forwarding(*, on: bool) -> None:
    FORWARDING.write_text("1" if on else "0")
