"""What clients are told of registries."""

from __future__ import annotations

from engine.api.shown import Document
from engine.oci.reference import DEFAULT_DOMAIN
from engine.settings import Registries

LOOPBACK = ("::1/128", "127.0.0.0/8")


def registries_json(registries: Registries) -> Document:
    """RegistryConfig of /info."""
    mirrors = [f"{mirror}/" for mirror in registries.mirrors]
    hosts = [entry for entry in registries.insecure if "/" not in entry]
    networks = [entry for entry in registries.insecure if "/" in entry]
    return {
        "InsecureRegistryCIDRs": [*LOOPBACK, *networks],
        "IndexConfigs": {
            DEFAULT_DOMAIN: _index(DEFAULT_DOMAIN, mirrors, is_secure=True, is_official=True),
            **{host: _index(host, [], is_secure=False, is_official=False) for host in hosts},
        },
        "Mirrors": mirrors or None,
    }


def _index(name: str, mirrors: list[str], *, is_secure: bool, is_official: bool) -> Document:
    return {"Name": name, "Mirrors": mirrors, "Secure": is_secure, "Official": is_official}
