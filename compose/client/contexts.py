"""Docker contexts: named engines that the docker CLI keeps in its folder, with their TLS files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from compose.client.address import Address, TlsFiles, UnixAddress, address_of, docker_folder
from compose.client.errors import BadAddress

DEFAULT = "default"
DEFAULT_SOCKET = "/var/run/docker.sock"


def context_address(name: str, environment: Mapping[str, str]) -> Address:
    """Where the engine of this context listens. Raises BadAddress. As in Docker the context
    `default` is what there is without contexts: the local dockerd."""
    if name == DEFAULT:
        return UnixAddress(DEFAULT_SOCKET)
    store = docker_folder(environment) / "contexts"
    digest = hashlib.sha256(name.encode()).hexdigest()
    path = store / "meta" / digest / "meta.json"
    try:
        endpoint = _endpoint(json.loads(path.read_bytes()))
    except FileNotFoundError:
        known = ", ".join([DEFAULT, *_names(store)])
        raise BadAddress(
            f"cannot use the Docker context {name!r}: there is no such context",
            hint=f"known are: {known}",
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise BadAddress(f"cannot use the Docker context {name!r}: {path}: {error}") from error
    host = endpoint.get("Host")
    if not isinstance(host, str) or not host:
        raise BadAddress(f"cannot use the Docker context {name!r}: it names no Docker endpoint")
    return address_of(host, _tls_files(store / "tls" / digest / "docker", endpoint))


def _endpoint(document: object) -> Mapping[str, object]:
    if not isinstance(document, dict):
        raise ValueError("it is no object")
    endpoints = document.get("Endpoints")
    endpoint = endpoints.get("docker") if isinstance(endpoints, dict) else None
    return endpoint if isinstance(endpoint, dict) else {}


def _tls_files(folder: Path, endpoint: Mapping[str, object]) -> TlsFiles | None:
    ca, cert, key = (
        path if (path := folder / name).exists() else None
        for name in ("ca.pem", "cert.pem", "key.pem")
    )
    skips = endpoint.get("SkipTLSVerify") is True
    if ca is None and cert is None and key is None and not skips:
        return None
    return TlsFiles(ca, cert, key, verify=not skips)


def _names(store: Path) -> list[str]:
    found = []
    for path in store.glob("meta/*/meta.json"):
        try:
            found.append(str(json.loads(path.read_bytes())["Name"]))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # what can't be read can't be offered
    return sorted(found)
