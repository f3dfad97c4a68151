"""Which repositories there are: by the search of an index server, as Docker Hub is one, or from the
catalog of a registry that has no search."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from engine.errors import Failure, InvalidRequest
from engine.oci.document import (
    MAX_DOCUMENT,
    as_array,
    as_object,
    bool_field,
    int_field,
    parse_object,
    text_field,
    texts_field,
)
from engine.oci.reference import DEFAULT_DOMAIN
from engine.registry.connection import Connection

MAX_PAGES = 20
PAGE = 1000
# What a token for the catalog is asked for (distribution, "token scope").
CATALOG_SCOPE = "registry:catalog:*"
_NEXT_PAGE = re.compile(r'<[^<>?]*\?([^<>]*)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class Found:
    name: str  # as it is pulled
    description: str = ""
    stars: int = 0
    is_official: bool = False
    is_automated: bool = False


def split_term(term: str) -> tuple[str, str]:
    """The registry, and what is looked for there. Raises InvalidRequest."""
    if "://" in term:
        raise InvalidRequest(f"invalid repository name ({term}): it must not have a scheme")
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return (DEFAULT_DOMAIN, rest) if first == "index.docker.io" else (first, rest)
    return DEFAULT_DOMAIN, term.removeprefix("library/")


async def search(connection: Connection, domain: str, term: str, limit: int) -> list[Found]:
    """Raises EngineError where the registry says nothing of the kind."""
    path = f"search?q={quote(term, safe='')}&n={limit}"
    async with connection.get(path, api="v1") as answer:
        body = await answer.read(MAX_DOCUMENT)
        status, reason = answer.status, answer.reason
    if status == 200:
        return _parse_results(body)[:limit]
    if status != 404 or domain == DEFAULT_DOMAIN:
        raise Failure(f"cannot search {domain}: unexpected status code {status} {reason}")
    return [each async for each in _from_catalog(connection, domain, term, limit)]


async def _from_catalog(
    connection: Connection, domain: str, term: str, limit: int
) -> AsyncIterator[Found]:
    query = f"n={PAGE}"
    for _ in range(MAX_PAGES):
        async with connection.get(f"_catalog?{query}") as answer:
            body = await answer.read(MAX_DOCUMENT)
            if answer.status != 200:
                raise Failure(
                    f"cannot search {domain}: it has no search, and its catalog cannot be read: "
                    f"{answer.status} {answer.reason}"
                )
            following = _NEXT_PAGE.search(answer.header("Link"))
        for name in _parse_names(body):
            if term in name:
                yield Found(f"{domain}/{name}")
                limit -= 1
                if not limit:
                    return
        if following is None:
            return
        query = following[1]


def _parse_results(body: bytes) -> list[Found]:
    try:
        document = parse_object(body, "answer to a search", limit=MAX_DOCUMENT)
        found = as_array(document.get("results"), "results")
        return [_parse_result(as_object(each, "results")) for each in found]
    except InvalidRequest as error:
        raise Failure(str(error)) from None


def _parse_result(document: Mapping[str, object]) -> Found:
    return Found(
        name=text_field(document, "name"),
        description=text_field(document, "description"),
        stars=int_field(document, "star_count"),
        is_official=bool_field(document, "is_official"),
        is_automated=bool_field(document, "is_automated"),
    )


def _parse_names(body: bytes) -> tuple[str, ...]:
    try:
        return texts_field(parse_object(body, "catalog", limit=MAX_DOCUMENT), "repositories")
    except InvalidRequest as error:
        raise Failure(str(error)) from None
