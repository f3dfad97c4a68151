"""pure: where an engine listens, as DOCKER_HOST spells it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from compose.client.errors import BadAddress
from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class UnixAddress:
    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of the client; `verify` False accepts any server certificate."""

    ca: Path | None
    cert: Path | None
    key: Path | None
    verify: bool


@dataclass(frozen=True, slots=True)
class TcpAddress:
    host: str
    port: int
    tls: TlsFiles | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


Address = UnixAddress | TcpAddress


def parse_address(text: str, environment: Mapping[str, str]) -> Address:
    """`unix:///path`, `tcp://host:port`, `http(s)://host:port`, or a bare absolute path."""
    if text.startswith("/"):
        return UnixAddress(text)
    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return UnixAddress(rest)
    if scheme in ("tcp", "http", "https") and separator:
        return _tcp_address(text, scheme, environment)
    if scheme == "ssh":
        host = rest.split("/")[0]
        raise BadAddress(
            f"cannot use {text!r}: there is no SSH transport",
            hint="forward the socket: ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock"
            f" {host} and use unix:///tmp/engine.sock",
        )
    raise BadAddress(
        f"cannot use {text!r} as the engine's address",
        hint="write unix:///path/of/socket or tcp://host:port",
    )


def _tcp_address(text: str, scheme: str, environment: Mapping[str, str]) -> TcpAddress:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"cannot use {text!r}: {error}") from error
    if not parts.hostname:
        raise BadAddress(f"cannot use {text!r}: it names no host")
    tls = _tls_files(environment, wanted=scheme == "https")
    default = 2376 if tls else 2375
    return TcpAddress(parts.hostname, port or default, tls)


def _tls_files(environment: Mapping[str, str], *, wanted: bool) -> TlsFiles | None:
    # As the docker CLI: DOCKER_TLS or a non-empty DOCKER_TLS_VERIFY turns TLS on, and only
    # DOCKER_TLS_VERIFY checks the server.
    verify = bool(environment.get("DOCKER_TLS_VERIFY"))
    if not (wanted or verify or environment.get("DOCKER_TLS")):
        return None
    folder = environment.get("DOCKER_CERT_PATH")
    if not folder:
        return TlsFiles(None, None, None, verify=verify or wanted)
    ca, cert, key = (Path(folder, name) for name in ("ca.pem", "cert.pem", "key.pem"))
    return TlsFiles(ca, cert, key, verify=verify or wanted)
