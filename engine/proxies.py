"""Pure: through which proxy the engine itself reaches an address. The rules are Go's
(golang.org/x/net/http/httpproxy), which Docker's daemon follows."""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine.errors import InvalidRequest

_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Proxies:
    http: str = ""  # for http:// addresses: http[s]://[USER:PASSWORD@]HOST[:PORT]
    https: str = ""
    none_for: str = ""  # hosts, `.domains`, networks, `host:port`s; with commas; * for all

    def of(self, url: str) -> str:
        """The proxy's address, "" for none."""
        parts = urllib.parse.urlsplit(url)
        proxy = self.https if parts.scheme == "https" else self.http
        host = (parts.hostname or "").rstrip(".")
        port = str(parts.port or _PORTS.get(parts.scheme, ""))
        return proxy if proxy and not self._is_direct(host, port) else ""

    def _is_direct(self, host: str, port: str) -> bool:
        address = _address(host)
        if host == "localhost" or (address is not None and address.is_loopback):
            return True
        words = (word.strip().lower() for word in self.none_for.split(","))
        return any(_matches(word, host, address, port) for word in words if word)


def parse_proxies(
    environment: Mapping[str, str], given: Mapping[str, str] = MappingProxyType({})
) -> Proxies:
    """`given`: by the names of daemon.json; what isn't said there counts as the environment has it.
    Raises InvalidRequest."""

    def said(name: str) -> str:
        variable = name.upper().replace("-", "_")
        known = environment.get(variable) or environment.get(variable.lower(), "")
        return given.get(name) or known

    return Proxies(
        parse_proxy(said("http-proxy")), parse_proxy(said("https-proxy")), said("no-proxy")
    )


def parse_proxy(text: str) -> str:
    """`host:port` stands for http://host:port. Raises InvalidRequest."""
    if not text:
        return ""
    full = text if "://" in text else f"http://{text}"
    try:
        parts = urllib.parse.urlsplit(full)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            f"cannot use {shown_proxy(text)!r} as a proxy: it has to be "
            "http[s]://[USER:PASSWORD@]HOST[:PORT]"
        )
    return full.rstrip("/")


def shown_proxy(text: str) -> str:
    """Without what is secret in it."""
    scheme, separator, rest = text.rpartition("://")
    account, at, host = rest.rpartition("@")
    return f"{scheme}{separator}xxxxx:xxxxx@{host}" if at and account else text


def _matches(
    word: str,
    host: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
    port: str,
) -> bool:
    if word == "*":
        return True
    if "/" in word:
        try:
            return address is not None and address in ipaddress.ip_network(word, strict=False)
        except ValueError:
            return False
    name, wanted_port = word, ""
    if word.startswith("[") or word.count(":") == 1:
        name, _, wanted_port = word.rpartition(":") if not word.endswith("]") else (word, "", "")
        name = name.strip("[]")
    if wanted_port and wanted_port != port:
        return False
    known = _address(name)
    if known is not None:
        return known == address
    domain = name.removeprefix("*")
    if domain.startswith("."):
        return host.endswith(domain)
    return host == domain or host.endswith(f".{domain}")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
