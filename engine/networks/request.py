"""Pure: is a request for a network one that this engine can fulfil, and to the letter?"""

import re
from collections.abc import Mapping

from engine.errors import Forbidden, InvalidRequest, NotFound, Unsupported
from engine.networks.model import (
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_HOST_BINDING,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_MTU,
    PREDEFINED,
    NetworkSpec,
)

# What the kernel takes as a name, without what shells and paths would trip over.
INTERFACE_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}")
BOOLEANS = {"true": "true", "1": "true", "t": "true", "false": "false", "0": "false", "f": "false"}
KNOWN_DRIVERS = ("macvlan", "ipvlan", "overlay")  # of Docker, not of this engine


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
        case "host" | "null" | "none":
            raise Forbidden(f'only one instance of "{spec.driver}" network is allowed')
        case driver if driver in KNOWN_DRIVERS:
            raise Unsupported(f"network driver {driver} is not supported by this engine")
        case driver:
            raise NotFound(f'plugin "{driver}" not found')
    if spec.ingress:
        raise Unsupported("an ingress network needs a swarm")
    if spec.enable_ipv6 or not spec.enable_ipv4:
        raise Unsupported("this engine's networks are IPv4 only")
    if spec.ipam_driver not in ("default", ""):
        raise NotFound(f'ipam driver "{spec.ipam_driver}" not found')
    if spec.ipam_options:
        name = next(iter(spec.ipam_options))
        raise InvalidRequest(f"unknown option of the default IPAM driver: {name}")
    if len(spec.pools) > 1:
        raise InvalidRequest("the bridge driver takes one IPv4 subnet a network")
    for pool in spec.pools:
        if not pool.subnet and (pool.gateway or pool.ip_range or pool.auxiliary):
            raise InvalidRequest("a gateway, ip-range or aux-address needs a subnet")
    checked_options(spec.options)


def checked_options(options: Mapping[str, str]) -> Mapping[str, str]:
    """`options` with booleans as "true" or "false"."""
    return {name: _checked_option(name, value) for name, value in options.items()}


def _checked_option(name: str, value: str) -> str:
    match name:
        case _ if name == OPTION_BRIDGE_NAME:
            if not INTERFACE_NAME.fullmatch(value):
                raise InvalidRequest(f"invalid interface name {value!r} in {name}")
            return value
        case _ if name in (OPTION_ICC, OPTION_MASQUERADE, OPTION_DEFAULT_BRIDGE):
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
