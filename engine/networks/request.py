"""Pure: is a request for a network one that this engine can fulfil, and to the letter?"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from engine.errors import (
    NO_SWARM_MANAGER,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unavailable,
    Unsupported,
)
from engine.networks.ipam import wanted_pools
from engine.networks.model import (
    BOOLEANS,
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_IFNAME_PREFIX,
    OPTION_INHIBIT,
    OPTION_IPVLAN_FLAG,
    OPTION_IPVLAN_MODE,
    OPTION_MACVLAN_MODE,
    OPTION_MASQUERADE,
    OPTION_MTU,
    OPTION_PARENT,
    OPTION_TRUSTED,
    PREDEFINED,
    AddressPool,
    GatewayMode,
    Network,
    NetworkSpec,
    version_of,
)
from engine.networks.parents import DRIVERS, kind_of

# What the kernel takes as a name, without what shells and paths would trip over.
INTERFACE_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}")


def check_spec(spec: NetworkSpec) -> None:
    """Raises InvalidRequest, Forbidden, NotFound or Unsupported, in Docker's words where it has
    some."""
    if not spec.name.strip():
        raise InvalidRequest("invalid name: name is empty")
    if "\0" in spec.name or "/" in spec.name or len(spec.name) > 255:
        raise InvalidRequest(f"invalid network name: {spec.name!r}")
    if spec.name in (*PREDEFINED, "default"):
        raise Forbidden(f"operation is not permitted on predefined {spec.name} network")
    if spec.config_only or spec.config_from:
        _check_template(spec)
    _check_scope(spec)
    match spec.driver:
        case "bridge" | "" | "default":
            pass
        case driver if driver in DRIVERS:
            _check_parent(spec)
        case "host" | "null" | "none":
            raise Forbidden(f'only one instance of "{spec.driver}" network is allowed')
        case "overlay":
            raise Forbidden(NO_SWARM_MANAGER)
        case driver:
            raise NotFound(f'plugin "{driver}" not found')
    if not spec.enable_ipv4 and not spec.enable_ipv6:
        raise InvalidRequest("IPv4 or IPv6 must be enabled")
    if spec.ipam_driver not in ("default", ""):
        raise NotFound(f'plugin "{spec.ipam_driver}" not found')
    for pool in spec.pools:
        if not pool.subnet:
            raise InvalidRequest("invalid subnet : invalid CIDR block notation")
    wanted_pools(spec.pools, ipv4=spec.enable_ipv4, ipv6=spec.enable_ipv6)
    check_options(spec.options)
    for name in OPTION_GATEWAY_MODE.values():
        if spec.options.get(name) == GatewayMode.ISOLATED.value and not spec.internal:
            raise InvalidRequest("gateway mode 'isolated' can only be used for an internal network")


def _check_scope(spec: NetworkSpec) -> None:
    if spec.ingress:
        raise Unsupported("an ingress network needs a swarm")
    if spec.scope == "swarm":
        raise Unavailable("cannot create a swarm scoped network when swarm is not active")
    if spec.scope not in ("", "local"):
        raise InvalidRequest(f"invalid network scope {spec.scope!r}: this engine has local ones")


def _check_template(spec: NetworkSpec) -> None:
    if spec.config_only and (spec.internal or spec.attachable or spec.ingress or spec.scope):
        raise Forbidden(
            "configuration network can only contain network specific fields. Network operator "
            "fields like [ ingress | internal | attachable | scope ] are not supported."
        )
    if spec.config_only and spec.config_from:
        raise Forbidden("a configuration network cannot depend on another configuration network")
    given = spec.pools or spec.ipam_options or spec.options or spec.enable_ipv6
    if spec.config_from and given:
        raise Forbidden(
            "user specified configurations are not supported if the network depends on a "
            "configuration network"
        )


def taken_from(template: Network, spec: NetworkSpec) -> NetworkSpec:
    """What `spec` leaves to the configuration network."""
    if not template.config_only:
        raise Forbidden(f'configuration network "{template.name}" is no configuration network')
    return replace(
        spec,
        pools=template.pools,
        ipam_driver=template.ipam_driver,
        ipam_options=template.ipam_options,
        enable_ipv4=template.enable_ipv4,
        enable_ipv6=template.enable_ipv6,
        options=template.options,
        labels={**template.labels, **spec.labels},
    )


def refuse_second_use(spec: NetworkSpec, network_id: str, others: Iterable[Network]) -> None:
    """Two networks on one bridge would be one. Raises Forbidden."""
    bridge = spec.options.get(OPTION_BRIDGE_NAME)
    for other in others:
        if bridge and other.bridge == bridge and spec.driver not in DRIVERS:
            raise Forbidden(
                f"cannot create network {network_id} ({bridge}): conflicts with network {other.id}"
                f" ({bridge}): networks have same bridge name"
            )


def _check_parent(spec: NetworkSpec) -> None:
    kind_of(spec.driver, spec.options)
    parent = spec.options.get(OPTION_PARENT)
    if parent == "lo":
        raise InvalidRequest(f"loopback interface is not a valid {spec.driver} parent link")
    if parent and not INTERFACE_NAME.fullmatch(parent):
        raise InvalidRequest(f"invalid interface name {parent!r} in option {OPTION_PARENT}")


def unused_pools(spec: NetworkSpec) -> tuple[AddressPool, ...]:
    """Of an IP version that the network is not to have."""
    enabled = {4: spec.enable_ipv4, 6: spec.enable_ipv6}
    return tuple(
        pool for pool in spec.pools if pool.subnet and not enabled[version_of(pool.subnet)]
    )


def warnings_of(spec: NetworkSpec) -> str:
    """What was asked for and has no effect; Docker keeps silent about it."""
    found = [
        f"subnet {pool.subnet} is not used: IPv{version_of(pool.subnet)} is not enabled for this"
        " network"
        for pool in unused_pools(spec)
    ]
    found += [
        f"option {name} means nothing to the default IPAM driver"
        for name in spec.ipam_options or ()
    ]
    driver = spec.driver if spec.driver in DRIVERS else "bridge"
    found += [
        f"option {name} means nothing to the {driver} driver"
        for name in spec.options
        if name not in _CHECKS and name not in _OF_PARENTS.get(driver, ())
    ]
    return "; ".join(found)


_OF_PARENTS = {
    "macvlan": (OPTION_PARENT, OPTION_MACVLAN_MODE),
    "ipvlan": (OPTION_PARENT, OPTION_IPVLAN_MODE, OPTION_IPVLAN_FLAG),
}


def check_options(options: Mapping[str, str]) -> None:
    """Raises InvalidRequest, Forbidden or Unsupported."""
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(name, value)
        elif name.startswith("com.docker.network."):
            raise Unsupported(f"option {name} is not supported by this engine")


def _truth(name: str, value: str) -> None:
    if value.lower() not in BOOLEANS:
        raise _unparsable(name, value, f'strconv.ParseBool: parsing "{value}": invalid syntax')


def _unparsable(name: str, value: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"failed to parse {name} value: {value} ({why})")


def _default_bridge(name: str, value: str) -> None:
    _truth(name, value)
    if BOOLEANS[value.lower()]:
        raise Forbidden("default network can't be created by a request")


def _interface(name: str, value: str) -> None:
    if not INTERFACE_NAME.fullmatch(value):
        raise InvalidRequest(f"invalid interface name {value!r} in {name}")


def _interfaces(name: str, value: str) -> None:
    for each in value.split(":"):
        _interface(name, each)


def _gateway_mode(name: str, value: str) -> None:
    if value not in (mode.value for mode in GatewayMode):
        raise _unparsable(name, value, f"unknown gateway mode {value}")


def _prefix(name: str, value: str) -> None:
    if len(value) > 12 or not INTERFACE_NAME.fullmatch(f"{value}0"):
        raise InvalidRequest(f"invalid prefix of interface names {value!r} in {name}")


def _mtu(name: str, value: str) -> None:
    if not re.fullmatch(r"[+-]?\d{1,18}", value, re.ASCII):
        raise _unparsable(name, value, f'strconv.Atoi: parsing "{value}": invalid syntax')
    if not 68 <= int(value) <= 65535:
        raise InvalidRequest(f"invalid MTU number: {value} (from 68 to 65535)")


def _ipv4_address(name: str, value: str) -> None:
    try:
        IPv4Address(value)
    except ValueError:
        raise _unparsable(name, value, "nil ip") from None


_CHECKS: Mapping[str, Callable[[str, str], None]] = {
    OPTION_BRIDGE_NAME: _interface,
    OPTION_ICC: _truth,
    OPTION_MASQUERADE: _truth,
    OPTION_INHIBIT: _truth,
    OPTION_DEFAULT_BRIDGE: _default_bridge,
    OPTION_HOST_BINDING: _ipv4_address,
    OPTION_MTU: _mtu,
    OPTION_IFNAME_PREFIX: _prefix,
    OPTION_TRUSTED: _interfaces,
    **dict.fromkeys(OPTION_GATEWAY_MODE.values(), _gateway_mode),
}
