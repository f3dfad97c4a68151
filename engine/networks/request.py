"""Pure: is a request for a network one that this engine can fulfil, and to the letter?"""

import re
from collections.abc import Mapping

from engine.errors import Forbidden, InvalidRequest, NotFound, Unsupported
from engine.networks.ipam import wanted_pools
from engine.networks.model import (
    MACVLAN_MODES,
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_IFNAME_PREFIX,
    OPTION_INHIBIT,
    OPTION_MACVLAN_MODE,
    OPTION_MASQUERADE,
    OPTION_MTU,
    OPTION_PARENT,
    PREDEFINED,
    GatewayMode,
    NetworkSpec,
    version_of,
)

# What the kernel takes as a name, without what shells and paths would trip over.
INTERFACE_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}")
BOOLEANS = {"true": "true", "1": "true", "t": "true", "false": "false", "0": "false", "f": "false"}
KNOWN_DRIVERS = ("ipvlan", "overlay")  # of Docker, not of this engine


def check_spec(spec: NetworkSpec) -> None:
    """Raises InvalidRequest, Forbidden, NotFound or Unsupported, in Docker's words where it has
    some."""
    if not spec.name.strip():
        raise InvalidRequest("invalid network name: it is empty")
    if "\0" in spec.name or "/" in spec.name or len(spec.name) > 255:
        raise InvalidRequest(f"invalid network name: {spec.name!r}")
    if spec.name in PREDEFINED:
        raise Forbidden(f"operation is not permitted on predefined {spec.name} network")
    match spec.driver:
        case "bridge" | "" | "default":
            pass
        case "macvlan":
            _check_macvlan(spec)
        case "host" | "null" | "none":
            raise Forbidden(f'only one instance of "{spec.driver}" network is allowed')
        case driver if driver in KNOWN_DRIVERS:
            raise Unsupported(f"network driver {driver} is not supported by this engine")
        case driver:
            raise NotFound(f'plugin "{driver}" not found')
    if spec.ingress:
        raise Unsupported("an ingress network needs a swarm")
    if not spec.enable_ipv4 and not spec.enable_ipv6:
        raise InvalidRequest("IPv4 or IPv6 must be enabled")
    if spec.ipam_driver not in ("default", ""):
        raise NotFound(f'ipam driver "{spec.ipam_driver}" not found')
    if spec.ipam_options:
        name = next(iter(spec.ipam_options))
        raise InvalidRequest(f"unknown option of the default IPAM driver: {name}")
    for pool in spec.pools:
        if not pool.subnet and (pool.gateway or pool.ip_range or pool.auxiliary):
            raise InvalidRequest("a gateway, ip-range or aux-address needs a subnet")
    wanted_pools(spec.pools, ipv4=spec.enable_ipv4, ipv6=spec.enable_ipv6)
    options = checked_options(spec.options)
    for name in OPTION_GATEWAY_MODE.values():
        if options.get(name) == GatewayMode.ISOLATED.value and not spec.internal:
            raise InvalidRequest("gateway mode 'isolated' can only be used for an internal network")


def _check_macvlan(spec: NetworkSpec) -> None:
    if not INTERFACE_NAME.fullmatch(spec.options.get(OPTION_PARENT, "")):
        raise InvalidRequest(
            "a macvlan network needs an interface of this host to be on: option parent, as in"
            " -o parent=eth0"
        )
    mode = spec.options.get(OPTION_MACVLAN_MODE, "bridge")
    if mode not in MACVLAN_MODES:
        raise InvalidRequest(
            f"unknown macvlan mode {mode!r}: it is one of {', '.join(MACVLAN_MODES)}"
        )


def unused_pools(spec: NetworkSpec) -> str:
    """A warning where subnets were given that the network will not have; Docker keeps silent."""
    enabled = {4: spec.enable_ipv4, 6: spec.enable_ipv6}
    unused = [
        pool.subnet for pool in spec.pools if pool.subnet and not enabled[version_of(pool.subnet)]
    ]
    return "".join(
        f"subnet {subnet} is not used: IPv{version_of(subnet)} is not enabled for this network"
        for subnet in unused
    )


def checked_options(options: Mapping[str, str]) -> Mapping[str, str]:
    """`options` with booleans as "true" or "false"."""
    return {name: _checked_option(name, value) for name, value in options.items()}


def _checked_option(name: str, value: str) -> str:
    match name:
        case _ if name == OPTION_BRIDGE_NAME:
            if not INTERFACE_NAME.fullmatch(value):
                raise InvalidRequest(f"invalid interface name {value!r} in {name}")
            return value
        case _ if name in OPTION_GATEWAY_MODE.values():
            if value not in (mode.value for mode in GatewayMode):
                raise InvalidRequest(
                    f"failed to parse {name} value: {value} (unknown gateway mode {value})"
                )
            return value
        case _ if name == OPTION_IFNAME_PREFIX:
            if len(value) > 12 or not INTERFACE_NAME.fullmatch(f"{value}0"):
                raise InvalidRequest(f"invalid prefix of interface names {value!r} in {name}")
            return value
        case _ if name in (OPTION_ICC, OPTION_MASQUERADE, OPTION_DEFAULT_BRIDGE, OPTION_INHIBIT):
            if value.lower() not in BOOLEANS:
                raise InvalidRequest(f"invalid value {value!r} of {name}: neither true nor false")
            if name == OPTION_DEFAULT_BRIDGE and BOOLEANS[value.lower()] == "true":
                raise Forbidden("default network can't be created by a request")
            return BOOLEANS[value.lower()]
        case _ if name == OPTION_MTU:
            if not value.isdecimal() or not 68 <= int(value) <= 65535:
                raise InvalidRequest(f"invalid value {value!r} of {name}: from 68 to 65535")
            return value
        case _ if name == OPTION_HOST_BINDING:
            if not re.fullmatch(r"\d{1,3}(\.\d{1,3}){3}", value):
                raise InvalidRequest(f"invalid value {value!r} of {name}: not an IPv4 address")
            return value
        case _ if name.startswith("com.docker.network."):
            raise Unsupported(f"option {name} is not supported by this engine")
        case _:
            return value
