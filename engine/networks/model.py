"""Frozen values of networks: what was asked for, what exists, and a container's place in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

# Options of Docker's bridge driver that this engine honours.
OPTION_BRIDGE_NAME = "com.docker.network.bridge.name"
OPTION_ICC = "com.docker.network.bridge.enable_icc"
OPTION_MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
OPTION_HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
OPTION_GATEWAY_MODE = {
    4: "com.docker.network.bridge.gateway_mode_ipv4",
    6: "com.docker.network.bridge.gateway_mode_ipv6",
}
OPTION_INHIBIT = "com.docker.network.bridge.inhibit_ipv4"
OPTION_IFNAME_PREFIX = "com.docker.network.container_iface_prefix"
OPTION_MTU = "com.docker.network.driver.mtu"
OPTION_DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
OPTION_TRUSTED = "com.docker.network.bridge.trusted_host_interfaces"

# Of Docker's macvlan and ipvlan drivers; the numbers are the kernel's.
OPTION_PARENT = "parent"
OPTION_MACVLAN_MODE = "macvlan_mode"
MACVLAN_MODES = {"bridge": 4, "private": 1, "vepa": 2, "passthru": 8}  # the first is the default
OPTION_IPVLAN_MODE = "ipvlan_mode"
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
OPTION_IPVLAN_FLAG = "ipvlan_flag"
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}

BOOLEANS = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}

# Options of one container's place in a network (EndpointConfig.DriverOpts).
ENDPOINT_IFNAME = "com.docker.network.endpoint.ifname"
ENDPOINT_SYSCTLS = "com.docker.network.endpoint.sysctls"

# A label of containers: "true" = their published ports may be those of others with this label,
# and connections are spread over them.
SHARED_PORTS = "io.pycompose.shared-ports"

PREDEFINED = ("bridge", "host", "none")


class GatewayMode(Enum):
    """How containers are reached from outside, and get there (per IP version)."""

    NAT = "nat"  # outside under the host's address; only published ports are open
    UNPROTECTED = "nat-unprotected"  # as NAT, and whoever has a route reaches every port
    ROUTED = "routed"  # under their own addresses; published ports are open there, not on the host
    ISOLATED = "isolated"  # of internal networks: the host has no address in it either


class Standing(Enum):
    """How fit a container is to be given work. Of several that do the same, the best get it."""

    READY = 0
    STARTING = 1  # its health check has not succeeded yet
    UNFIT = 2  # unhealthy, or about to end


def version_of(text: str) -> int:
    """4 or 6, of an address or a subnet."""
    return 6 if ":" in text else 4


@dataclass(frozen=True, slots=True)
class AddressPool:
    """One subnet of a network, in Docker's words IPAM.Config[i]. Empty = choose."""

    subnet: str = ""  # "172.18.0.0/16"
    gateway: str = ""
    ip_range: str = ""  # addresses are given out from here only
    auxiliary: Mapping[str, str] = field(default_factory=dict)  # name -> address never given out
    subnet_chosen: bool = False  # by the engine, as the request left it open
    gateway_chosen: bool = False


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A request to create a network."""

    name: str
    driver: str = "bridge"
    pools: tuple[AddressPool, ...] = ()
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    scope: str = ""  # "" = the driver's own
    config_only: bool = False  # a template that others take by `config_from`
    config_from: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    id: str
    name: str
    driver: str  # "bridge", "macvlan", "ipvlan", "host", "null"
    created: int  # nanoseconds since the epoch
    pools: tuple[AddressPool, ...]  # IPv4, IPv6 or both in this order; nothing empty in them
    bridge: str  # name of the interface, "" for those that have none
    unused: tuple[AddressPool, ...] = ()  # as asked for, of an IP version that is not enabled
    scope: str = "local"
    ipam_driver: str = "default"
    ipam_options: Mapping[str, str] | None = None
    internal: bool = False
    attachable: bool = False
    ingress: bool = False
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    config_only: bool = False
    config_from: str = ""

    @property
    def predefined(self) -> bool:
        return self.name in PREDEFINED

    @property
    def has_links(self) -> bool:
        """Containers get an interface of their own in it."""
        return self.driver in ("bridge", "macvlan", "ipvlan")

    def flag(self, option: str, *, default: bool) -> bool:
        value = self.options.get(option, "")
        return BOOLEANS[value.lower()] if value else default

    @property
    def mtu(self) -> int:
        """0 = the kernel's default."""
        return int(self.options.get(OPTION_MTU, "0"))

    @property
    def trusted_interfaces(self) -> tuple[str, ...]:
        """Of the host; published ports are open for them at the containers' own addresses."""
        return tuple(filter(None, self.options.get(OPTION_TRUSTED, "").split(":")))

    @property
    def is_routed_by_link(self) -> bool:
        """The kernel routes between a container and the parent interface: there is no gateway."""
        return self.driver == "ipvlan" and self.options.get(OPTION_IPVLAN_MODE, "l2") != "l2"

    @property
    def listed_pools(self) -> tuple[AddressPool, ...]:
        """In Docker's order: what was asked for comes before what the engine chose."""
        pools = (*self.pools, *self.unused)
        return tuple(sorted(pools, key=lambda it: (it.subnet_chosen, version_of(it.subnet))))

    def pool(self, version: int) -> AddressPool | None:
        return next((each for each in self.pools if version_of(each.subnet) == version), None)

    def gateway_mode(self, version: int) -> GatewayMode:
        return GatewayMode(self.options.get(OPTION_GATEWAY_MODE[version], GatewayMode.NAT.value))

    def host_address(self, version: int) -> str:
        """The bridge's own; "" where it has none."""
        pool = self.pool(version)
        if pool is None or self.gateway_mode(version) is GatewayMode.ISOLATED:
            return ""
        inhibited = version == 4 and self.flag(OPTION_INHIBIT, default=False)
        return "" if inhibited else pool.gateway

    def gateway(self, version: int) -> str:
        """What containers take as their default route; "" = no way out by this network."""
        pool = self.pool(version)
        if self.internal or pool is None or self.is_routed_by_link:
            return ""
        isolated = self.gateway_mode(version) is GatewayMode.ISOLATED
        return "" if isolated else pool.gateway

    @property
    def serves_names(self) -> bool:
        """The default bridge has no name service, as in Docker; host and none have no link."""
        return self.has_links and not self.predefined


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    container_id: str
    container_name: str
    hostname: str = ""
    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""  # "" = the next free one
    ipv6_address: str = ""
    mac_address: str = ""  # "" = made from the address
    gateway_priority: int = 0
    ifname: str = ""  # "" = the container's next ethN
    links: Mapping[str, str] = field(default_factory=dict)  # alias -> name of another container
    link_local: tuple[str, ...] = ()  # further addresses, not of the network's subnets
    sysctls: Mapping[str, str] = field(default_factory=dict)  # "net.ipv4.conf.IFNAME.x" -> value
    before: tuple[str, ...] = ()  # addresses that it had: it gets those that are free


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place in one network; exists from start to stop."""

    endpoint_id: str
    network_id: str
    network_name: str
    container_id: str
    container_name: str
    ifname: str = ""  # in the container; "" in the host and none networks
    host_ifname: str = ""
    mac_address: str = ""
    ipv4_address: str = ""
    ipv4_prefix: int = 0
    gateway: str = ""  # "" = no way out: internal, host, none
    ipv6_address: str = ""
    ipv6_prefix: int = 0
    ipv6_gateway: str = ""
    dns_names: tuple[str, ...] = ()  # what the network's name service answers for
    links: Mapping[str, str] = field(default_factory=dict)
    gateway_priority: int = 0
    link_local: tuple[str, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    direct: bool = False  # the link is the way out, without a gateway

    def address(self, version: int) -> str:
        return self.ipv6_address if version == 6 else self.ipv4_address

    def way_out(self, version: int) -> str:
        """The gateway of its network."""
        return self.ipv6_gateway if version == 6 else self.gateway

    def leads_out(self, version: int) -> bool:
        return bool(self.way_out(version) or (self.direct and self.address(version)))


@dataclass(frozen=True, slots=True)
class DnsOptions:
    """HostConfig.Dns, DnsOptions and DnsSearch of one container."""

    servers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PortRequest:
    """One wish: `container_port/protocol` on one free host port of a range; 0 = ephemeral."""

    container_port: int
    protocol: str = "tcp"
    host_ip: str = ""  # "" = all addresses of the host, of the versions that the container has
    host_port: int = 0
    host_port_end: int = 0  # last of the range, 0 = only host_port
    shared: bool = False  # with other containers that want it so


@dataclass(frozen=True, slots=True)
class PortBinding:
    """What is really bound."""

    container_port: int
    protocol: str
    host_ip: str
    host_port: int  # 0: open at the container's own address (routed networks)
    shared: bool = False
