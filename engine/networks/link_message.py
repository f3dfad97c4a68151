"""Pure: rtnetlink requests for bridges, and for a container's place on one."""

import socket
import struct
from dataclasses import dataclass

from engine.networks.netlink import (
    CREATE,
    EXCL,
    REPLACE,
    Message,
    Reply,
    attribute,
    attributes,
    host_u32,
    nested,
    text,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR = 20
RTM_NEWROUTE, RTM_DELROUTE = 24, 25

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER = 1, 3, 4, 5, 10
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_NET_NS_FD = 18, 20, 26, 28
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE = 8, 1
IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 4, 33
VETH_INFO_PEER = 1
IFLA_MACVLAN_MODE = 1
IFLA_IPVLAN_MODE, IFLA_IPVLAN_FLAGS = 1, 2
IFLA_VLAN_ID = 1
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
IFA_F_NODAD = 0x02
RTA_OIF, RTA_GATEWAY = 4, 5
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST = 254, 3, 1
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
IFF_UP = 1

LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")


def link_header(index: int = 0, *, up: bool = False) -> bytes:
    return LINK.pack(0, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


def hardware_address(mac_address: str) -> bytes:
    return bytes.fromhex(mac_address.replace(":", ""))


def packed_address(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def create_bridge(ifname: str, mac_address: str, mtu: int) -> Message:
    """A given hardware address stays when ports come and go; neighbours remember it."""
    body = link_header() + text(IFLA_IFNAME, ifname)
    body += attribute(IFLA_ADDRESS, hardware_address(mac_address))
    body += host_u32(IFLA_MTU, mtu) if mtu else b""
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "bridge"))
    return Message(RTM_NEWLINK, CREATE | EXCL, body, f"create the bridge {ifname}")


def set_alias(ifname: str, index: int, alias: str) -> Message:
    body = link_header(index) + attribute(IFLA_IFALIAS, alias.encode())
    return Message(RTM_NEWLINK, 0, body, f"mark {ifname} as the engine's")


def create_veth(
    *,
    host_ifname: str,
    bridge_index: int,
    mtu: int,
    namespace: int,
    ifname: str,
    mac_address: str,
) -> Message:
    """The pair with its inner end in the namespace from the start (moving it there later costs
    an RCU grace period), the outer end on its bridge and up. IFF_UP of the inner end is refused
    here (ENOTCONN: its peer is not up yet)."""
    size = host_u32(IFLA_MTU, mtu) if mtu else b""
    peer = attribute(
        VETH_INFO_PEER | 0x8000,
        link_header()
        + text(IFLA_IFNAME, ifname)
        + attribute(IFLA_ADDRESS, hardware_address(mac_address))
        + size
        + host_u32(IFLA_NET_NS_FD, namespace),
    )
    body = (
        link_header(up=True)
        + text(IFLA_IFNAME, host_ifname)
        + host_u32(IFLA_MASTER, bridge_index)
        + size
        + nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "veth"), nested(IFLA_INFO_DATA, peer))
    )
    return Message(RTM_NEWLINK, CREATE | EXCL, body, f"create the link {host_ifname}")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a link on a parent interface is, in the kernel's words."""

    name: str  # "macvlan", "ipvlan"
    mode: int
    flags: int = 0  # of ipvlan

    @property
    def settings(self) -> bytes:
        if self.name == "macvlan":
            return host_u32(IFLA_MACVLAN_MODE, self.mode)
        mode, flags = (struct.pack("=H", each) for each in (self.mode, self.flags))
        return attribute(IFLA_IPVLAN_MODE, mode) + attribute(IFLA_IPVLAN_FLAGS, flags)


def create_on_parent(
    kind: Kind, *, parent: int, namespace: int, ifname: str, mac_address: str, mtu: int
) -> Message:
    """A further hardware or network address on the interface `parent`, in the namespace from the
    start."""
    body = link_header() + text(IFLA_IFNAME, ifname)
    body += attribute(IFLA_ADDRESS, hardware_address(mac_address)) if mac_address else b""
    body += host_u32(IFLA_LINK, parent) + host_u32(IFLA_NET_NS_FD, namespace)
    body += host_u32(IFLA_MTU, mtu) if mtu else b""
    data = nested(IFLA_INFO_DATA, kind.settings)
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, kind.name), data)
    return Message(RTM_NEWLINK, CREATE | EXCL, body, f"create the {kind.name} link {ifname}")


def create_dummy(ifname: str) -> Message:
    """A parent that leads nowhere."""
    body = link_header(up=True) + text(IFLA_IFNAME, ifname)
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "dummy"))
    return Message(RTM_NEWLINK, CREATE | EXCL, body, f"create the dummy link {ifname}")


def create_vlan(ifname: str, parent: int, identifier: int) -> Message:
    body = link_header(up=True) + text(IFLA_IFNAME, ifname) + host_u32(IFLA_LINK, parent)
    data = nested(IFLA_INFO_DATA, attribute(IFLA_VLAN_ID, struct.pack("=H", identifier)))
    body += nested(IFLA_LINKINFO, text(IFLA_INFO_KIND, "vlan"), data)
    return Message(RTM_NEWLINK, CREATE | EXCL, body, f"create the vlan link {ifname}")


def without_link_local(ifname: str, index: int) -> Message:
    """An interface that is IPv4 only gets no IPv6 address by itself (CVE-2024-32473). To be sent
    before it comes up; a new link doesn't take it."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, bytes([ADDR_GEN_MODE_NONE]))
    body = link_header(index) + nested(IFLA_AF_SPEC, nested(socket.AF_INET6, mode))
    return Message(RTM_NEWLINK, 0, body, f"keep IPv6 off {ifname}")


def set_port(host_ifname: str, *, isolated: bool, hairpin: bool) -> Message:
    """Frames between isolated ports of one bridge are dropped; a hairpin port may get back what
    it sent itself. By name, so that it can travel with the message that creates the link."""
    modes = attribute(IFLA_BRPORT_MODE, bytes([hairpin]))
    modes += attribute(IFLA_BRPORT_ISOLATED, bytes([isolated]))
    data = nested(IFLA_INFO_SLAVE_DATA, modes)
    info = nested(IFLA_LINKINFO, text(IFLA_INFO_SLAVE_KIND, "bridge"), data)
    body = link_header() + text(IFLA_IFNAME, host_ifname) + info
    return Message(RTM_NEWLINK, 0, body, f"set up bridge port {host_ifname}")


def get_link(ifname: str) -> Message:
    body = link_header() + text(IFLA_IFNAME, ifname)
    return Message(RTM_GETLINK, 0, body, f"look up the link {ifname}")


def index_of(reply: Reply) -> int:
    return int(LINK.unpack_from(reply.body)[2])


def is_up(reply: Reply) -> bool:
    return bool(int(LINK.unpack_from(reply.body)[3]) & IFF_UP)


def master_of(reply: Reply) -> int:
    """Index of the bridge a link belongs to, 0 = none."""
    found = dict(attributes(reply.body[LINK.size :])).get(IFLA_MASTER)
    return 0 if found is None else int(struct.unpack("=I", found)[0])


def alias_of(reply: Reply) -> str:
    found = dict(attributes(reply.body[LINK.size :])).get(IFLA_IFALIAS, b"")
    return found.rstrip(b"\0").decode(errors="replace")


def set_master(ifname: str, index: int, bridge_index: int) -> Message:
    body = link_header(index, up=True) + host_u32(IFLA_MASTER, bridge_index)
    return Message(RTM_NEWLINK, 0, body, f"put {ifname} on its bridge")


def set_up(ifname: str, index: int) -> Message:
    return Message(RTM_NEWLINK, 0, link_header(index, up=True), f"bring up {ifname}")


def delete_link(ifname: str, index: int) -> Message:
    return Message(RTM_DELLINK, 0, link_header(index), f"delete the link {ifname}")


def add_address(index: int, address: str, prefix: int) -> Message:
    family, packed = packed_address(address)
    body = ADDRESS.pack(family, prefix, 0, RT_SCOPE_UNIVERSE, index)
    body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    if family == socket.AF_INET:
        hosts = (1 << (32 - prefix)) - 1
        broadcast = int.from_bytes(packed, "big") | hosts
        body += attribute(IFA_BROADCAST, broadcast.to_bytes(4, "big"))
    else:
        # Addresses are given out by the engine: duplicate detection would cost a second.
        body += host_u32(IFA_FLAGS, IFA_F_NODAD)
    return Message(RTM_NEWADDR, CREATE | REPLACE, body, f"add the address {address}/{prefix}")


def default_route(index: int, gateway: str) -> Message:
    family, packed = packed_address(gateway)
    body = _route(family) + attribute(RTA_GATEWAY, packed) + host_u32(RTA_OIF, index)
    return Message(RTM_NEWROUTE, CREATE | REPLACE, body, f"route by way of {gateway}")


def default_route_by_link(index: int, version: int) -> Message:
    """Everything is on the link."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    body = _route(family, scope=RT_SCOPE_LINK) + host_u32(RTA_OIF, index)
    return Message(RTM_NEWROUTE, CREATE | REPLACE, body, f"route IPv{version} by the link")


def drop_default_route(family: int) -> Message:
    return Message(RTM_DELROUTE, 0, _route(family), "take the default route away")


def _route(family: int, *, scope: int = RT_SCOPE_UNIVERSE) -> bytes:
    return ROUTE.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, scope, RTN_UNICAST, 0)
