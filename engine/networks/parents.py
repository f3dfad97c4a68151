"""The host's interface that a macvlan or ipvlan network is on.

It may be one that is there; `NAME.VLAN`, which is made of NAME then; or none: a link of the
engine's own that leads nowhere, so containers only reach each other. What was made carries the
alias that the engine's bridges have, and goes with the last network on it.
"""

import errno
import re
from collections.abc import Mapping

from engine.errors import Failure, InvalidRequest
from engine.ids import short_id
from engine.networks import link_message as link
from engine.networks.model import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
    OPTION_IPVLAN_FLAG,
    OPTION_IPVLAN_MODE,
    OPTION_MACVLAN_MODE,
    OPTION_PARENT,
    Network,
)
from engine.networks.netlink_socket import NetlinkError, NetlinkSocket

DRIVERS = ("macvlan", "ipvlan")
_DUMMY = {"macvlan": "dm-", "ipvlan": "di-"}  # as Docker calls them, with the network's short id
_VLAN = re.compile(r"(.+)\.(\d{1,4})")


def parent_of(driver: str, options: Mapping[str, str], network_id: str) -> str:
    return options.get(OPTION_PARENT) or f"{_DUMMY[driver]}{short_id(network_id)}"


def parent_name(network: Network) -> str:
    return parent_of(network.driver, network.options, network.id)


def kind_of(driver: str, options: Mapping[str, str]) -> link.Kind:
    """Raises InvalidRequest for a mode that there isn't, in Docker's words."""
    if driver == "macvlan":
        return link.Kind(driver, _chosen(driver, "mode", options, OPTION_MACVLAN_MODE))
    mode = _chosen(driver, "mode", options, OPTION_IPVLAN_MODE)
    return link.Kind(driver, mode, _chosen(driver, "flag", options, OPTION_IPVLAN_FLAG))


_CHOICES = {
    OPTION_MACVLAN_MODE: MACVLAN_MODES,
    OPTION_IPVLAN_MODE: IPVLAN_MODES,
    OPTION_IPVLAN_FLAG: IPVLAN_FLAGS,
}


def _chosen(driver: str, what: str, options: Mapping[str, str], option: str) -> int:
    choices = _CHOICES[option]
    default = next(iter(choices))
    word = options.get(option) or default
    if word not in choices:
        raise InvalidRequest(
            f"requested {driver} {what} '{word}' is not valid, '{default}' {what} is the {driver}"
            f" driver default (there are {', '.join(choices)})"
        )
    return choices[word]


def ensure_parent(host: NetlinkSocket, name: str, alias: str = "") -> int:
    """Its index; made, with `alias`, where it can be. Raises Failure."""
    found = _find(host, name)
    if found is not None:
        return found
    match = _VLAN.fullmatch(name)
    if name.startswith(tuple(_DUMMY.values())):
        host.request(link.create_dummy(name))
    elif match is None:
        raise Failure(f"invalid subinterface vlan name {name}, example formatting is eth0.10")
    else:
        _create_vlan(host, name, match[1], int(match[2]))
    made = _find(host, name)
    if made is None:
        raise Failure(f"interface {name} went as soon as it was made")
    if alias:
        host.request(link.set_alias(name, made, alias))
    return made


def _create_vlan(host: NetlinkSocket, name: str, parent: str, identifier: int) -> None:
    if not 1 <= identifier <= 4094:
        raise Failure(f"vlan id must be between 1-4094, received: {identifier}")
    below = _find(host, parent)
    if below is None:
        raise Failure(f"failed to find master interface {parent} on the host")
    host.request(link.create_vlan(name, below, identifier))


def drop_parent(host: NetlinkSocket, name: str, alias: str) -> None:
    """Where it is one that was made."""
    try:
        (found,) = host.request(link.get_link(name))
    except NetlinkError as error:
        if error.errno != errno.ENODEV:
            raise
        return
    if link.alias_of(found) == alias:
        host.request(link.delete_link(name, link.index_of(found)))


def _find(host: NetlinkSocket, name: str) -> int | None:
    try:
        (found,) = host.request(link.get_link(name))
    except NetlinkError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return link.index_of(found)
