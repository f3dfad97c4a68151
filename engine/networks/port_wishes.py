"""Pure: which addresses a wish for a published port stands for, given the networks by which the
container is reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from engine.errors import InvalidRequest, Unsupported
from engine.networks.firewall_rules import WILDCARD, WILDCARD6
from engine.networks.model import (
    OPTION_HOST_BINDING,
    GatewayMode,
    Network,
    PortBinding,
    PortRequest,
    version_of,
)
from engine.networks.ports import check


@dataclass(frozen=True, slots=True)
class Wishes:
    on_host: tuple[tuple[PortRequest, tuple[str, ...]], ...]  # each with its host addresses
    at_home: tuple[PortBinding, ...]  # open at the container's own address (routed networks)


def decide(wanted: Sequence[PortRequest], networks: Mapping[int, Network]) -> Wishes:
    """`networks`: per IP version the one of the container's way out; none: IPv4 is meant. Raises
    InvalidRequest, Unsupported."""
    versions = tuple(networks) or (4,)
    routed = [v for v, each in networks.items() if each.gateway_mode(v) is GatewayMode.ROUTED]
    default = networks[4].options.get(OPTION_HOST_BINDING, "") if 4 in networks else ""
    on_host, at_home = [], []
    for each in wanted:
        check(each)
        hosts = [host for host in _hosts(each, default) if version_of(host) in versions]
        if not hosts:
            version = version_of(each.host_ip)
            raise InvalidRequest(
                f"cannot publish port {each.container_port} on {each.host_ip}: the container has"
                f" no IPv{version} address to be reached at"
            )
        at_home += [
            PortBinding(each.container_port, each.protocol, host, 0)
            for host in hosts
            if version_of(host) in routed
        ]
        if translated := tuple(host for host in hosts if version_of(host) not in routed):
            on_host.append((each, translated))
    return Wishes(tuple(on_host), tuple(at_home))


def _hosts(wish: PortRequest, default: str) -> Sequence[str]:
    if not wish.host_ip:
        # A network whose ports are meant for one address opens none to all of another version.
        return (WILDCARD, WILDCARD6) if default in ("", WILDCARD) else (default,)
    address = ip_address(wish.host_ip)
    if address.version == 6 and address.is_loopback:
        raise Unsupported(
            f"cannot publish port {wish.container_port} on ::1: the kernel leads nothing from"
            " there to a container; publish it on 127.0.0.1"
        )
    return (str(address),)
