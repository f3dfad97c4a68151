"""What a daemon is told at its start: folders and addresses. Pure; the environment is passed in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from engine.errors import InvalidRequest

VERSION = "0.1.0"
# sun_path of unix(7) holds 108 bytes with the final NUL.
LONGEST_SOCKET_PATH = 107
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)


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
class Registries:
    """How registries are reached."""

    mirrors: tuple[str, ...] = ()  # of Docker Hub, asked before it: `https://host[:port]`
    insecure: tuple[str, ...] = ()  # `host`, `host:port` or a network: plain HTTP is allowed there


@dataclass(frozen=True, slots=True)
class Settings:
    data_root: Path
    exec_root: Path
    hosts: tuple[Address, ...]
    registries: Registries = Registries()


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


def make_settings(
    *,
    hosts: tuple[str, ...],
    data_root: str,
    exec_root: str,
    insecure_tcp: bool,
    mirrors: tuple[str, ...] = (),
    insecure_registries: tuple[str, ...] = (),
    uid: int,
    environment: Mapping[str, str],
) -> Settings:
    """Fill in what was left out, and refuse what would be unsafe. Raises InvalidRequest."""
    places = default_places(uid, environment)
    run = absolute("--exec-root", exec_root) if exec_root else places.exec_root
    addresses = tuple(parse_address(host) for host in hosts) or (Places(run, run).host,)
    for address in addresses:
        refuse_unsafe(address, insecure_tcp=insecure_tcp)
    if len(set(addresses)) < len(addresses):
        raise InvalidRequest("cannot listen: the same address is given twice")
    return Settings(
        data_root=absolute("--data-root", data_root) if data_root else places.data_root,
        exec_root=run,
        hosts=addresses,
        registries=Registries(
            tuple(parse_mirror(mirror) for mirror in mirrors),
            tuple(parse_insecure(registry) for registry in insecure_registries),
        ),
    )


def parse_mirror(text: str) -> str:
    """An address without a path; raises InvalidRequest."""
    scheme, separator, host = text.rstrip("/").partition("://")
    if not separator or scheme not in ("http", "https") or not _HOST.fullmatch(host):
        raise InvalidRequest(
            f"cannot use {text!r} as a mirror: it has to be https://HOST[:PORT] or http://HOST[:PORT]"
        )
    return f"{scheme}://{host.lower()}"


def parse_insecure(text: str) -> str:
    """A host, `host:port`, or a network as 10.0.0.0/8; raises InvalidRequest."""
    try:
        if "/" in text:
            return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise InvalidRequest(f"cannot use {text!r} as an insecure registry: no network") from None
    if not _HOST.fullmatch(text):
        raise InvalidRequest(
            f"cannot use {text!r} as an insecure registry: it has to be HOST[:PORT] or a network"
        )
    return text.lower()


def absolute(option: str, text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        raise InvalidRequest(f"cannot use {option} {text!r}: it has to be an absolute path")
    return path


def parse_address(text: str) -> Address:
    """`unix:///path` or `tcp://IP:PORT`; raises InvalidRequest."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix":
        path = absolute("-H", rest)
        if len(str(path).encode()) > LONGEST_SOCKET_PATH:
            raise InvalidRequest(
                f"cannot listen on {text!r}: a socket's path holds {LONGEST_SOCKET_PATH} bytes"
            )
        return UnixAddress(path)
    if separator and scheme == "tcp":
        return _tcp(text, rest)
    raise InvalidRequest(
        f"cannot listen on {text!r}: it has to be unix:///absolute/path or tcp://127.0.0.1:PORT"
    )


def _tcp(text: str, rest: str) -> TcpAddress:
    host, _, port = rest.rstrip("/").rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise InvalidRequest(f"cannot listen on {text!r}: ports run from 1 to 65535")
    try:
        return TcpAddress(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        raise InvalidRequest(f"cannot listen on {text!r}: {host!r} is no IP address") from None


def refuse_unsafe(address: Address, *, insecure_tcp: bool) -> None:
    """Whoever reaches the API is root on this machine: no network may reach it by accident."""
    match address:
        case UnixAddress():
            return
        case TcpAddress():
            if address.is_loopback or insecure_tcp:
                return
            raise InvalidRequest(
                f"cannot listen on {address}: everyone who reaches this port is root on this "
                "machine, and nothing checks who it is; listen on 127.0.0.1, or say "
                "--insecure-tcp if the network is closed"
            )
        case _:
            assert_never(address)
