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


@dataclass(frozen=True, slots=True)
class SshAddress:
    """An engine behind an SSH login; there `dial-stdio` of its own command connects to it."""

    host: str
    user: str = ""
    port: int | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"ssh://{f'{self.user}@' if self.user else ''}{host}{port}"


Address = UnixAddress | TcpAddress | SshAddress


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """--tls, --tlsverify, --tlscacert, --tlscert and --tlskey; "" = not given."""

    tls: bool = False
    verify: bool = False
    ca: str = ""
    cert: str = ""
    key: str = ""


NO_TLS_OPTIONS = TlsOptions()


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line says of the engine; "" = nothing."""

    host: str = ""
    context: str = ""  # of Docker
    tls: TlsOptions = NO_TLS_OPTIONS


def parse_address(
    text: str, environment: Mapping[str, str], options: TlsOptions = NO_TLS_OPTIONS
) -> Address:
    """`unix:///path`, `tcp://host:port`, `http(s)://host:port`, `ssh://[user@]host[:port]`, or a
    bare absolute path."""
    scheme = text.partition("://")[0]
    wanted = scheme in ("tcp", "http", "https")
    tls = _tls_files(environment, options, wanted=scheme == "https") if wanted else None
    return address_of(text, tls)


def address_of(text: str, tls: TlsFiles | None) -> Address:
    """The same where the TLS files are known."""
    if text.startswith("/"):
        return UnixAddress(text)
    scheme, separator, rest = text.partition("://")
    if scheme == "unix" and rest.startswith("/"):
        return UnixAddress(rest)
    if scheme in ("tcp", "http", "https") and separator:
        host, port = _host_and_port(text)
        return TcpAddress(host, port or (2376 if tls else 2375), tls)
    if scheme == "ssh" and separator:
        return _ssh_address(text)
    raise BadAddress(
        f"cannot use {text!r} as the engine's address",
        hint="write unix:///path/of/socket, tcp://host:port or ssh://user@host",
    )


def _host_and_port(text: str) -> tuple[str, int | None]:
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError as error:
        raise BadAddress(f"cannot use {text!r}: {error}") from error
    if not parts.hostname:
        raise BadAddress(f"cannot use {text!r}: it names no host")
    return parts.hostname, port


def _ssh_address(text: str) -> SshAddress:
    host, port = _host_and_port(text)
    parts = urlsplit(text)
    if parts.password:
        raise BadAddress(
            f"cannot use ssh://{host}: a password has no place in an address",
            hint="ssh asks for it, or use a key",
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadAddress(f"cannot use {text!r}: nothing can follow the host and the port")
    if any(part.startswith("-") for part in (host, parts.username or "")):
        raise BadAddress(f"cannot use {text!r}: ssh would take it for an option")
    return SshAddress(host, parts.username or "", port)


def _tls_files(
    environment: Mapping[str, str], options: TlsOptions, *, wanted: bool
) -> TlsFiles | None:
    """As the docker CLI: an option, DOCKER_TLS or a non-empty DOCKER_TLS_VERIFY turns TLS on, and
    only --tlsverify and DOCKER_TLS_VERIFY check the server."""
    verify = options.verify or bool(environment.get("DOCKER_TLS_VERIFY"))
    named = any((options.ca, options.cert, options.key))
    if not (wanted or verify or named or options.tls or environment.get("DOCKER_TLS")):
        return None
    folder = environment.get("DOCKER_CERT_PATH") or ""
    if not folder and (verify or options.tls or environment.get("DOCKER_TLS")):
        folder = str(docker_folder(environment))

    def file(given: str, usual: str) -> Path | None:
        return Path(given) if given else Path(folder, usual) if folder else None

    return TlsFiles(
        file(options.ca, "ca.pem"),
        file(options.cert, "cert.pem"),
        file(options.key, "key.pem"),
        verify=verify or wanted,
    )


def docker_folder(environment: Mapping[str, str]) -> Path:
    """Where the docker CLI keeps its configuration."""
    given = environment.get("DOCKER_CONFIG")
    return Path(given) if given else Path(environment.get("HOME", "/"), ".docker")
