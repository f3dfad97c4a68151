"""Pure: what a container may ask of its place in one network by driver options."""

import re
from collections.abc import Mapping

from engine.errors import InvalidRequest
from engine.networks.model import ENDPOINT_IFNAME, ENDPOINT_SYSCTLS
from engine.networks.request import INTERFACE_NAME

_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.(?i:IFNAME)\.([a-z0-9_]+)")


def interface_name(options: Mapping[str, str]) -> str:
    """ "" = the next one. Raises InvalidRequest."""
    name = options.get(ENDPOINT_IFNAME, "")
    if name and (not INTERFACE_NAME.fullmatch(name) or name in ("lo", "all", "default")):
        raise InvalidRequest(f"invalid interface name {name!r} in {ENDPOINT_IFNAME}")
    return name


def sysctls(options: Mapping[str, str]) -> dict[str, str]:
    """Names (with IFNAME in the place of the interface) and values of a list with commas."""
    found = {}
    for entry in filter(None, options.get(ENDPOINT_SYSCTLS, "").split(",")):
        name, separator, value = entry.partition("=")
        match = _SYSCTL.fullmatch(name)
        if match is None or not separator or not value.isprintable():
            raise InvalidRequest(
                f"invalid sysctl {entry!r} in {ENDPOINT_SYSCTLS}: they have the form"
                " net.ipv4.conf.IFNAME.name=value"
            )
        # The docker CLI makes it lower case on the way.
        family, kind, setting = match.groups()
        found[f"net.{family}.{kind}.IFNAME.{setting}"] = value
    return found
