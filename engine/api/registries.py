"""What clients are told of registries, and what they ask them through us."""

from __future__ import annotations

from aiohttp import web

from engine.api.answer import reply
from engine.api.parts import Engine
from engine.api.request import Request, Version
from engine.api.shown import Document
from engine.errors import InvalidRequest
from engine.oci.manifest import descriptor_json
from engine.oci.reference import DEFAULT_DOMAIN, parse_reference
from engine.registry.credentials import parse_registry_auth
from engine.registry.search import Found
from engine.settings import Registries

SEARCH_LIMIT, MOST_FOUND = 25, 100
SEARCH_FILTERS = frozenset({"is-automated", "is-official", "stars"})
LOOPBACK = ("::1/128", "127.0.0.0/8")


def registries_json(registries: Registries, version: Version) -> Document:
    """RegistryConfig of /info."""
    mirrors = [f"{mirror}/" for mirror in registries.mirrors]
    hosts = [entry for entry in registries.insecure if "/" not in entry]
    networks = [entry for entry in registries.insecure if "/" in entry]
    document: Document = {
        "InsecureRegistryCIDRs": [*LOOPBACK, *networks],
        "IndexConfigs": {
            DEFAULT_DOMAIN: _index(DEFAULT_DOMAIN, mirrors, is_secure=True, is_official=True),
            **{host: _index(host, [], is_secure=False, is_official=False) for host in hosts},
        },
        "Mirrors": mirrors or None,
    }
    if version < (1, 47):
        document |= {
            "AllowNondistributableArtifactsCIDRs": None,
            "AllowNondistributableArtifactsHostnames": None,
        }
    return document


def _index(name: str, mirrors: list[str], *, is_secure: bool, is_official: bool) -> Document:
    return {"Name": name, "Mirrors": mirrors, "Secure": is_secure, "Official": is_official}


async def search(request: Request, engine: Engine) -> web.Response:
    limit = request.query.integer("limit") or SEARCH_LIMIT
    if not 1 <= limit <= MOST_FOUND:
        raise InvalidRequest(f"limit {limit} is outside the range of [1, {MOST_FOUND}]")
    filters = request.query.filters()
    filters.check(SEARCH_FILTERS)
    stars = [_stars(text) for text in filters.get("stars")]
    official, automated = filters.flag("is-official"), filters.flag("is-automated")
    credentials = parse_registry_auth(request.header("X-Registry-Auth"))
    with request.until_gone():
        found = await engine.images.search(request.query.text("term"), credentials, limit=limit)
    wanted = [
        each
        for each in found
        if official in (None, each.is_official)
        and automated in (None, each.is_automated)
        and all(each.stars >= least for least in stars)
    ]
    return reply(200, [_found_json(each) for each in wanted])


def _stars(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise InvalidRequest(f"invalid filter 'stars=[{text}]'")
    return int(text)


def _found_json(found: Found) -> Document:
    return {
        "star_count": found.stars,
        "is_official": found.is_official,
        "name": found.name,
        "is_automated": found.is_automated,
        "description": found.description,
    }


async def distribution(request: Request, engine: Engine) -> web.Response:
    """What a registry has under a name."""
    reference = parse_reference(request["name"]).with_default_tag()
    credentials = parse_registry_auth(request.header("X-Registry-Auth"))
    with request.until_gone():
        found = await engine.images.look_up(reference, credentials)
    platforms = [
        {
            "architecture": platform.architecture,
            "os": platform.os,
            **({"variant": platform.variant} if platform.variant else {}),
        }
        for platform in found.platforms
    ]
    return reply(200, {"Descriptor": descriptor_json(found.descriptor), "Platforms": platforms})
