"""Pure: which addresses a wish for a published port stands for, given the networks by which the
container is reached."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from engine.networks.carrier import CARRIED
from engine.networks.firewall_rules import (
    WILDCARD,
    WILDCARD6,
)
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
    """`networks`: per IP version the one of the container's way out. An address of a version that
    the container lacks is bound all the same: the engine carries over. Raises InvalidRequest."""
    routed = [v for v, each in networks.items() if each.gateway_mode(v) is GatewayMode.ROUTED]
    default = networks[4].options.get(OPTION_HOST_BINDING, "") if 4 in networks else ""
    on_host, at_home = [], []
    for each in wanted:
        check(each)
        hosts = _hosts(each, default)
        if each.protocol not in CARRIED:
            hosts = [host for host in hosts if version_of(host) in (tuple(networks) or (4,))]
        at_home += [
            PortBinding(each.container_port, each.protocol, host, 0)
            for host in hosts
            if version_of(host) in routed
        ]
        if translated := tuple(host for host in hosts if version_of(host) not in routed):
            on_host.append((each, translated))
    return Wishes(tuple(on_host), tuple(at_home))


def _hosts(wish: PortRequest, default: str) -> Sequence[str]:
    if wish.host_ip:
        return (str(ip_address(wish.host_ip)),)
    # A network whose ports are meant for one address opens none to all of another version.
    return (WILDCARD, WILDCARD6) if default in ("", WILDCARD) else (default,)
