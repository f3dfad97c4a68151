"""The config hash of Docker Compose: where it is equal, both tools leave a container alone."""

import hashlib
import json
from dataclasses import replace

from compose.model.document import Document
from compose.model.resources import Network, Volume
from compose.model.service import Service


def service_hash(service: Service) -> str:
    """Over the canonical form without what doesn't shape a container."""
    deploy = replace(service.deploy, replicas=None) if service.deploy else None
    shaping = replace(
        service, build=None, pull_policy="", scale=None, deploy=deploy, depends_on={}, profiles=()
    )
    return _hash(shaping.to_document())


def network_hash(network: Network) -> str:
    return _hash(network.to_document())


def volume_hash(volume: Volume) -> str:
    """With the driver that is meant where none is named, as Docker Compose fills it in: where the
    hashes differ, it offers to make the volume anew, without its data."""
    return _hash(replace(volume, driver=volume.driver or "local").to_document())


def _hash(document: Document) -> str:
    return hashlib.sha256(encode(document)).hexdigest()


def encode(document: object) -> bytes:
    """JSON as Go's encoder writes it, byte by byte: compact, and safe inside HTML."""
    text = _COMPACT.encode(document)
    # json.dumps writes \b and \f; so does Go since 1.22.
    for letter, escape in _HTML.items():
        text = text.replace(letter, escape)
    return text.encode()


# Documents are trees, so there is no ring to look for.
_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False)

_HTML = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
