"""Pure: what a daemon was told, by options and by daemon.json -> Settings.

Both have the keys of daemon.json, which are Docker's; the environment is passed in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import assert_never

from engine.containers.sizes import parse_size
from engine.errors import InvalidRequest
from engine.proxies import Proxies, parse_proxies
from engine.settings import (
    BUILD_CACHE,
    NO_OPTIONS,
    Address,
    ContainerDefaults,
    NetworkDefaults,
    Places,
    PoolOfSubnets,
    Registries,
    Settings,
    TcpAddress,
    Tls,
    UnixAddress,
    default_places,
)

LOG_LEVELS = ("debug", "info", "warning", "error")
# sun_path of unix(7) holds 108 bytes with the final NUL.
LONGEST_SOCKET_PATH = 107
PORT, TLS_PORT = 2375, 2376
TLS_FILES = {"tlscacert": "ca.pem", "tlscert": "cert.pem", "tlskey": "key.pem"}
_HOST = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)


def make_settings(
    given: Mapping[str, object],
    *,
    uid: int,
    environment: Mapping[str, str],
    places: Mapping[str, str] = NO_OPTIONS,
) -> Settings:
    """Fill in what was left out, and refuse what would be unsafe. `given` has the keys of
    daemon.json, also for what was said by options; `places` names the file of those that stand in
    one. Raises InvalidRequest."""
    asked = Asked(given, places)
    usual = Registries()
    default = default_places(uid, environment)
    run = asked.path("exec-root", default.exec_root)
    with asked.place("hosts"):
        tls = tls_of(asked, environment)
        port = PORT if tls is None else TLS_PORT
        hosts = tuple(parse_address(host, port=port) for host in asked.texts("hosts"))
        hosts = hosts or (Places(run, run).host,)
        for address in hosts:
            refuse_unsafe(address, tls, insecure_tcp=asked.flag("insecure-tcp"))
        if len(set(hosts)) < len(hosts):
            raise InvalidRequest("cannot listen: the same address is given twice")
    with asked.place("live-restore"):
        if not asked.flag("live-restore", default=True):
            raise InvalidRequest("cannot turn it off: containers always outlive this engine")
    return Settings(
        data_root=asked.path("data-root", default.data_root),
        exec_root=run,
        hosts=hosts,
        tls=tls,
        group=asked.text("group"),
        registries=Registries(
            mirrors=asked.each("registry-mirrors", parse_mirror),
            insecure=asked.each("insecure-registries", parse_insecure),
            downloads=asked.number("max-concurrent-downloads", usual.downloads),
            uploads=asked.number("max-concurrent-uploads", usual.uploads),
            attempts=asked.number("max-download-attempts", usual.attempts),
        ),
        containers=ContainerDefaults(
            log_driver=asked.text("log-driver") or ContainerDefaults().log_driver,
            log_options=asked.text_map("log-opts"),
            dns=asked.each("dns", parse_server),
            dns_options=asked.texts("dns-opts"),
            dns_search=asked.texts("dns-search"),
            userns_remap=asked.text("userns-remap"),
        ),
        networks=NetworkDefaults(
            pools=asked.pools("default-address-pools"), mtu=asked.number("mtu", 0, least=0)
        ),
        proxies=asked.proxies("proxies", environment),
        build_cache=asked.build_cache("builder"),
        labels=asked.each("labels", parse_label),
        log_level=parse_level(asked.text("log-level"), debug=asked.flag("debug")),
    )


class Asked:
    """Options and keys of daemon.json, read one by one; a refusal says where it stands."""

    def __init__(self, given: Mapping[str, object], places: Mapping[str, str]) -> None:
        self._given = given
        self._places = places

    @contextmanager
    def place(self, key: str) -> Iterator[None]:
        try:
            yield
        except InvalidRequest as error:
            if key not in self._places:
                raise
            raise InvalidRequest(f"{self._places[key]}: {key}: {error}") from None

    def text(self, key: str) -> str:
        value = self._given.get(key, "")
        assert isinstance(value, str)
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._given.get(key, ())
        assert isinstance(value, list | tuple)
        return tuple(map(str, value))

    def text_map(self, key: str) -> Mapping[str, str]:
        value = self._given.get(key, NO_OPTIONS)
        assert isinstance(value, Mapping)
        return MappingProxyType({str(name): str(each) for name, each in value.items()})

    def flag(self, key: str, *, default: bool = False) -> bool:
        return bool(self._given.get(key, default))

    def number(self, key: str, default: int, *, least: int = 1) -> int:
        value = self._given.get(key, default)
        assert isinstance(value, int)
        with self.place(key):
            if value < least:
                raise InvalidRequest(f"cannot use {value}: it has to be {least} or more")
        return value

    def each(self, key: str, parse: Callable[[str], str]) -> tuple[str, ...]:
        with self.place(key):
            return tuple(parse(text) for text in self.texts(key))

    def path(self, key: str, default: Path) -> Path:
        text = self.text(key)
        with self.place(key):
            return absolute(f"--{key}", text) if text else default

    def pools(self, key: str) -> tuple[PoolOfSubnets, ...]:
        value = self._given.get(key, ())
        assert isinstance(value, list | tuple)
        with self.place(key):
            return tuple(parse_pool(str(pool["base"]), pool["size"]) for pool in value)

    def proxies(self, key: str, environment: Mapping[str, str]) -> Proxies:
        """What isn't said counts as the environment has it."""
        value = self.text_map(key)
        with self.place(key):
            return parse_proxies(environment, value)

    def build_cache(self, key: str) -> int:
        """Bytes; 0 for no limit."""
        value = self._given.get(key, NO_OPTIONS)
        assert isinstance(value, Mapping)
        collection = value.get("gc", NO_OPTIONS)
        if not collection.get("enabled", True):
            return 0
        text = collection.get("defaultKeepStorage", "")
        with self.place(key):
            return parse_size(text) if text else BUILD_CACHE


def tls_of(asked: Asked, environment: Mapping[str, str]) -> Tls | None:
    """As Docker's daemon: a file that isn't named is in ~/.docker (or DOCKER_CERT_PATH), and
    --tlsverify turns TLS on. So does a file that is named; `tlsverify: false` alone doesn't."""
    verify = asked.flag("tlsverify")
    if not (verify or asked.flag("tls", default=any(map(asked.text, TLS_FILES)))):
        return None
    usual = Path(environment.get("DOCKER_CERT_PATH") or f"{environment.get('HOME', '/')}/.docker")
    authorities, certificate, key = (
        asked.path(option, usual / name) for option, name in TLS_FILES.items()
    )
    return Tls(certificate, key, authorities, verify)


def parse_pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise InvalidRequest(f"cannot read the option {text!r}: it has to be KEY=VALUE")
    return key, value


def parse_pool_option(text: str) -> dict[str, object]:
    """`base=10.10.0.0/16,size=24`, as --default-address-pool has it."""
    pairs = dict(map(parse_pair, text.split(",")))
    size = pairs.get("size", "")
    if pairs.keys() != {"base", "size"} or not (size.isascii() and size.isdecimal()):
        raise InvalidRequest(
            f"cannot take subnets from {text!r}: it has to be base=NETWORK,size=BITS"
        )
    return {"base": pairs["base"], "size": int(size[:9])}


def parse_pool(base: str, size: int) -> PoolOfSubnets:
    try:
        network = ipaddress.IPv4Network(base)
    except ValueError as error:
        raise InvalidRequest(f"cannot take subnets from {base!r}: {error}") from None
    if not network.prefixlen <= size <= 30:
        raise InvalidRequest(
            f"cannot take subnets of {size} bits from {base}: "
            f"it has to be {network.prefixlen} to 30"
        )
    return PoolOfSubnets(network, size)


def parse_server(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidRequest(f"{text} is not an ip address") from None


def parse_label(text: str) -> str:
    if not text.partition("=")[1]:
        raise InvalidRequest(f"bad attribute format: {text}: it has to be KEY=VALUE")
    return text


def parse_level(text: str, *, debug: bool) -> str:
    if text and text not in LOG_LEVELS:
        raise InvalidRequest(
            f"cannot log at level {text!r}: it has to be one of {', '.join(LOG_LEVELS)}"
        )
    return text or ("debug" if debug else "info")


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


def parse_address(text: str, *, port: int = PORT) -> Address:
    """`unix:///path` or `tcp://IP:PORT`, where `port` and this machine alone are meant if nothing
    is said; raises InvalidRequest."""
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix":
        path = absolute("-H", rest)
        if len(str(path).encode()) > LONGEST_SOCKET_PATH:
            raise InvalidRequest(
                f"cannot listen on {text!r}: a socket's path holds {LONGEST_SOCKET_PATH} bytes"
            )
        return UnixAddress(path)
    if separator and scheme == "tcp":
        return _tcp(text, rest, port)
    raise InvalidRequest(
        f"cannot listen on {text!r}: it has to be unix:///absolute/path or tcp://127.0.0.1:PORT"
    )


def _tcp(text: str, rest: str, usual: int) -> TcpAddress:
    rest = rest.rstrip("/")
    with_port = re.search(r":[^:\]]*$", rest)
    host, _, port = rest.rpartition(":") if with_port else (rest, "", str(usual))
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host in ("", "localhost") else host
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise InvalidRequest(f"cannot listen on {text!r}: ports run from 1 to 65535")
    try:
        return TcpAddress(str(ipaddress.ip_address(host)), int(port))
    except ValueError:
        raise InvalidRequest(f"cannot listen on {text!r}: {host!r} is no IP address") from None


def refuse_unsafe(address: Address, tls: Tls | None, *, insecure_tcp: bool) -> None:
    """Whoever reaches the API is root on this machine: no network may reach it by accident."""
    match address:
        case UnixAddress():
            return
        case TcpAddress():
            if address.is_loopback or insecure_tcp or (tls is not None and tls.verify):
                return
            what = "TLS without --tlsverify doesn't check" if tls else "nothing checks"
            raise InvalidRequest(
                f"cannot listen on {address}: everyone who reaches this port is root on this "
                f"machine, and {what} who it is; check clients' certificates by --tlsverify, "
                "listen on 127.0.0.1, or say --insecure-tcp if the network is closed"
            )
        case _:
            assert_never(address)
