"""What a daemon is told at its start, as values; `options.py` reads it. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from engine.proxies import Proxies

CERTIFICATES = (Path("/etc/pycompose/certs.d"), Path("/etc/docker/certs.d"))
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str  # an IP address
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


Address = UnixAddress | TcpAddress


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files of what listens on TCP. `verify`: clients have to show a certificate that one of
    the `authorities` has signed."""

    certificate: Path
    key: Path
    authorities: Path
    verify: bool


@dataclass(frozen=True, slots=True)
class Registries:
    """How registries are reached."""

    mirrors: tuple[str, ...] = ()  # of Docker Hub, asked before it: `https://host[:port]`
    insecure: tuple[str, ...] = ()  # `host`, `host:port` or a network: plain HTTP is allowed there
    downloads: int = 3  # layers of a pull at once
    uploads: int = 5  # layers of a push at once
    attempts: int = 5  # of a transfer that breaks
    # Folders with certificates of registries, as HOST[:PORT]/*.crt and the like.
    certificates: tuple[Path, ...] = CERTIFICATES


@dataclass(frozen=True, slots=True)
class ContainerDefaults:
    """What a container gets that doesn't say."""

    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=lambda: NO_OPTIONS)
    dns: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    userns_remap: str = ""  # `default`, `user` or `user:group`: whose subordinate ids they have


@dataclass(frozen=True, slots=True)
class NetworkDefaults:
    pools: tuple[PoolOfSubnets, ...] = ()  # none: Docker's
    mtu: int = 0  # of the default bridge; 0: the kernel's


@dataclass(frozen=True, slots=True)
class PoolOfSubnets:
    """Networks get subnets of that many bits from `base`."""

    base: ipaddress.IPv4Network
    size: int


BUILD_CACHE = 10 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    data_root: Path
    exec_root: Path
    hosts: tuple[Address, ...]
    tls: Tls | None = None  # on every TCP address
    group: str = ""  # of the sockets, a name or a number; "": docker where there is one
    registries: Registries = Registries()
    containers: ContainerDefaults = ContainerDefaults()
    networks: NetworkDefaults = NetworkDefaults()
    proxies: Proxies = field(default_factory=Proxies)  # of the engine itself, not of containers
    build_cache: int = BUILD_CACHE  # bytes that the cache of builds may hold; 0 for no limit
    labels: tuple[str, ...] = ()  # of the daemon, for people: `key=value`
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class Places:
    """Where a daemon lives if nothing else is said."""

    data_root: Path
    exec_root: Path

    @property
    def host(self) -> UnixAddress:
        return UnixAddress(self.exec_root / "engine.sock")


def default_places(uid: int, environment: Mapping[str, str]) -> Places:
    """Root's are the machine's; a user's follow the XDG base directory specification."""
    if uid == 0:
        return Places(Path("/var/lib/pycompose"), Path("/run/pycompose"))
    home = environment.get("HOME", "/")
    data = environment.get("XDG_DATA_HOME") or f"{home}/.local/share"
    runtime = environment.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
    return Places(Path(data) / "pycompose", Path(runtime) / "pycompose")
